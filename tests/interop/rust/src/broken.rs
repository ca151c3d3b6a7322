//! Counterparts that are broken on purpose, so that tests can be seen to fail.
//!
//! `INTEROP_BROKEN` in the environment says how: `id` (messages change places), `end` (END is sent as
//! CANCEL), `cancel` (CANCEL is sent as END), `body` (a bit of the last byte is wrong), `malformed`
//! (what cannot be read ends the program), `certificate` (of or for somebody else), `alpn` (another
//! protocol).

use prost::bytes::{Buf, Bytes};
use protosocket::{Codec, Decoder, DeserializeError, Encoder};
use protosocket_rpc::{
    server::{ConnectionService, RpcKind},
    Message, ProtosocketControlCode,
};

const VARIABLE: &str = "INTEROP_BROKEN";

/// Whether anything is to be broken.
pub fn any() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Whether this is.
pub fn is(what: &str) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|broken| broken == what)
}

/// The bytes of a message, as they leave.
pub fn bytes(mut message: Vec<u8>) -> Vec<u8> {
    if is("body") {
        if let Some(last) = message.last_mut() {
            *last ^= 1;
        }
    }
    message
}

/// Another codec, and what becomes of it.
#[derive(Debug, Default)]
pub struct Broken<C>(C);

impl<C: Codec> Codec for Broken<C> where <C as Encoder>::Message: Message {}

impl<C: Encoder> Encoder for Broken<C>
where
    C::Message: Message,
{
    type Message = C::Message;
    type Serialized = Bytes;

    fn encode(&mut self, mut message: C::Message) -> Bytes {
        let id = message.message_id();
        match message.control_code() {
            // 2 with 3, 6 with 7, and so on.
            ProtosocketControlCode::Normal if is("id") && id & 2 != 0 => {
                message.set_message_id(id ^ 1);
            }
            ProtosocketControlCode::Cancel if is("cancel") => message = Message::ended(id),
            ProtosocketControlCode::End if is("end") => message = Message::cancelled(id),
            _ => {}
        }
        let mut serialized = self.0.encode(message);
        let mut copy = vec![0; serialized.remaining()];
        serialized.copy_to_slice(&mut copy);
        self.0.return_buffer(serialized);
        bytes(copy).into()
    }
}

impl<C: Decoder> Decoder for Broken<C> {
    type Message = C::Message;

    fn decode(&mut self, buffer: impl Buf) -> Result<(usize, C::Message), DeserializeError> {
        let decoded = self.0.decode(buffer);
        match decoded {
            Ok(_) | Err(DeserializeError::IncompleteBuffer { .. }) => decoded,
            Err(_) if is("malformed") => std::process::exit(0),
            Err(_) => decoded,
        }
    }
}

/// Another service, whose answers leave through a broken codec.
#[derive(Clone, Debug)]
pub struct BrokenService<S>(pub S);

impl<S: ConnectionService> ConnectionService for BrokenService<S> {
    type Codec = Broken<S::Codec>;
    type Request = S::Request;
    type Response = S::Response;
    type UnaryFutureType = S::UnaryFutureType;
    type StreamType = S::StreamType;

    fn new_rpc(&mut self, request: S::Request) -> RpcKind<Self::UnaryFutureType, Self::StreamType> {
        self.0.new_rpc(request)
    }
}
