//! Prints what the crates' encoders write, and reads what others have written.
//!
//! `vectors write` prints lines of `KIND NAME HEX`. `vectors read` answers each line `KIND HEX` of
//! its standard input with what the decoder makes of it, encoded again; or with `refused`, or
//! `incomplete`.

use futures::StreamExt;
use interop::{
    broken,
    notes::{Note, NoteCodec},
    own::seat,
    proto::{
        interop::v1::{request, response, Blob, Nothing, Number, Range, Request, Response},
        protosocket::rpc::v1::{Frame, FrameCodec, Metadatum, Status},
    },
    Outcome, Prost,
};
use prost::bytes::Buf;
use protosocket::{Codec, Decoder, DeserializeError, Encoder};
use protosocket_rpc::Message;

/// An encoded message, as it is on the wire.
fn encoded<C: Codec + Default>(message: <C as Encoder>::Message) -> String {
    let mut buffer = C::default().encode(message);
    let bytes = buffer.copy_to_bytes(buffer.remaining());
    let bytes = broken::bytes(bytes.to_vec());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn own_requests() -> Vec<(&'static str, Request)> {
    let request = |id: u64, body: request::Body| Request {
        id,
        body: Some(body),
        ..Request::default()
    };
    let data = b"hello".to_vec();
    let range = Range {
        count: 300,
        then_hang: true,
    };
    vec![
        ("echo", request(1, request::Body::Echo(Blob { data }))),
        ("gather", request(2, seat(1, 1 << 40))),
        ("count", request(300, request::Body::Count(range))),
        ("hang", request(u64::MAX, request::Body::Hang(Nothing {}))),
        ("cancel", Request::cancelled(300)),
        ("end", Request::ended(300)),
    ]
}

fn own_responses() -> Vec<(&'static str, Response)> {
    let mut number = Response::from(response::Body::Number(Number { value: 0 }));
    number.set_message_id(7);
    let data = vec![0; 200];
    let mut blob = Response::from(response::Body::Echo(Blob { data }));
    blob.set_message_id(300);
    vec![
        ("number", number),
        ("two-byte-length", blob),
        ("cancel", Response::cancelled(300)),
        ("end", Response::ended(300)),
    ]
}

/// What the generated code makes of the results of handlers.
fn frames() -> Vec<(&'static str, Frame)> {
    let number = Number { value: 300 };
    let opening = Frame {
        id: 1,
        method: "/interop.v1.Exercise/Ended".to_owned(),
        body: Some(prost::Message::encode_to_vec(&number)),
        timeout_us: 1_500_000,
        metadata: vec![
            Metadatum {
                key: "user".to_owned(),
                value: b"ada".to_vec(),
            },
            Metadatum {
                key: "trace-bin".to_owned(),
                value: vec![0, 255],
            },
        ],
        ..Frame::default()
    };
    let answer = |result: Result<Number, Status>| {
        let mut frame = Frame::answer(result);
        frame.set_message_id(1);
        frame
    };
    let failed = Status::new(Status::NOT_FOUND, "no such exercise \u{2013} yet");
    let item = Frame::answers(futures::stream::iter([Ok(Number::default())]));
    let item = futures::executor::block_on_stream(item.map(|mut frame| {
        frame.set_message_id(1);
        frame
    }));
    vec![
        ("request", opening),
        ("reply", answer(Ok(number))),
        ("error", answer(Err(failed))),
        ("item-empty", item.last().expect("there is one")),
        ("cancel", Frame::cancelled(1)),
        ("end", Frame::ended(1)),
    ]
}

fn notes() -> Vec<(&'static str, Note)> {
    let note = Note {
        id: 1,
        code: 0,
        verb: "echo".to_owned(),
        number: 300,
        text: "h\u{e9}llo".to_owned(),
    };
    let long = Note {
        id: u64::MAX,
        text: "x".repeat(70_000),
        ..note.clone()
    };
    vec![
        ("echo", note),
        ("long-text", long),
        ("cancel", Note::cancelled(300)),
        ("end", Note::ended(300)),
    ]
}

fn write() {
    for (name, message) in own_requests() {
        println!(
            "request {name} {}",
            encoded::<Prost<Request, Request>>(message)
        );
    }
    for (name, message) in own_responses() {
        println!(
            "response {name} {}",
            encoded::<Prost<Response, Response>>(message)
        );
    }
    for (name, frame) in frames() {
        println!("frame {name} {}", encoded::<FrameCodec>(frame));
    }
    for (name, note) in notes() {
        println!("note {name} {}", encoded::<NoteCodec>(note));
    }
}

fn read_back<M, C>(bytes: &[u8]) -> String
where
    C: Codec + Default + Decoder<Message = M> + Encoder<Message = M>,
{
    match C::default().decode(bytes) {
        Ok((length, _)) if length != bytes.len() => format!("took {length}"),
        Ok((_, message)) => encoded::<C>(message),
        Err(DeserializeError::IncompleteBuffer { .. }) => "incomplete".to_owned(),
        Err(_) => "refused".to_owned(),
    }
}

fn read() -> Outcome {
    for line in std::io::stdin().lines() {
        let line = line?;
        let (kind, hex) = line.split_once(' ').ok_or("KIND HEX")?;
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16))
            .collect::<Result<Vec<u8>, _>>()?;
        println!(
            "{}",
            match kind {
                "request" => read_back::<_, Prost<Request, Request>>(&bytes),
                "response" => read_back::<_, Prost<Response, Response>>(&bytes),
                "frame" => read_back::<_, FrameCodec>(&bytes),
                _ => read_back::<_, NoteCodec>(&bytes),
            }
        );
    }
    Ok(())
}

fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        Some("write") => write(),
        _ => read()?,
    }
    Ok(())
}
