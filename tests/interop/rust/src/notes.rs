//! RPC on a struct of serde's, with MessagePack on the wire.

use futures::{
    future::{ready, BoxFuture},
    stream::BoxStream,
    FutureExt, StreamExt,
};
use protosocket_messagepack::{MessagePackDecoder, MessagePackSerializer};
use protosocket_rpc::{
    server::{ConnectionService, RpcKind},
    Message, ProtosocketControlCode,
};
use serde::{Deserialize, Serialize};

use crate::exercise::Exercise;

/// A request or a response. Serde writes it as the list of its fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub id: u64,
    pub code: u8,
    pub verb: String,
    pub number: u64,
    pub text: String,
}

impl Message for Note {
    fn message_id(&self) -> u64 {
        self.id
    }

    fn control_code(&self) -> ProtosocketControlCode {
        ProtosocketControlCode::from_u8(self.code)
    }

    fn set_message_id(&mut self, message_id: u64) {
        self.id = message_id;
    }

    fn cancelled(message_id: u64) -> Self {
        Self {
            id: message_id,
            code: ProtosocketControlCode::Cancel.as_u8(),
            ..Self::default()
        }
    }

    fn ended(message_id: u64) -> Self {
        Self {
            id: message_id,
            code: ProtosocketControlCode::End.as_u8(),
            ..Self::default()
        }
    }
}

/// The codec of both sides.
pub type NoteCodec = (
    protosocket::PooledEncoder<MessagePackSerializer<Note>>,
    MessagePackDecoder<Note>,
);

/// One client's connection.
#[derive(Clone, Debug, Default)]
pub struct NoteService(Exercise);

impl ConnectionService for NoteService {
    type Codec = NoteCodec;
    type Request = Note;
    type Response = Note;
    type UnaryFutureType = BoxFuture<'static, Note>;
    type StreamType = BoxStream<'static, Note>;

    fn new_rpc(&mut self, note: Note) -> RpcKind<Self::UnaryFutureType, Self::StreamType> {
        let exercise = self.0.clone();
        let number = note.number;
        match note.verb.as_str() {
            "echo" => RpcKind::Unary(ready(note).boxed()),
            "gather" => RpcKind::Unary(
                async move {
                    let of = note.text.parse().expect("a number");
                    exercise.gather(of).await;
                    note
                }
                .boxed(),
            ),
            "count" => RpcKind::Streaming(
                exercise
                    .count(number, note.text == "then hang")
                    .map(|number| Note {
                        number,
                        ..Note::default()
                    })
                    .boxed(),
            ),
            "hang" => RpcKind::Unary(exercise.hang().map(|()| note).boxed()),
            "ended" => RpcKind::Unary(exercise.ended(number).map(|()| note).boxed()),
            _ => RpcKind::Cancelled,
        }
    }
}
