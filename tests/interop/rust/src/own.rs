//! RPC on the exercise's own messages, and what a message has to be able to for that.

use std::marker::PhantomData;

use futures::{
    future::{ready, BoxFuture, Ready},
    stream::BoxStream,
    FutureExt, StreamExt,
};
use protosocket_rpc::{
    server::{ConnectionService, RpcKind},
    Message, ProtosocketControlCode,
};

use crate::{
    exercise::Exercise,
    proto::interop::v1::{request, response, Blob, Number, Request, Response, Seat},
    Prost,
};

/// A message with the fields `id` and `code`.
macro_rules! message {
    ($type:ty) => {
        impl Message for $type {
            fn message_id(&self) -> u64 {
                self.id
            }

            fn control_code(&self) -> ProtosocketControlCode {
                ProtosocketControlCode::from_u8(self.code.try_into().unwrap_or(u8::MAX))
            }

            fn set_message_id(&mut self, message_id: u64) {
                self.id = message_id;
            }

            fn cancelled(message_id: u64) -> Self {
                Self {
                    id: message_id,
                    code: ProtosocketControlCode::Cancel.as_u8().into(),
                    ..Self::default()
                }
            }

            fn ended(message_id: u64) -> Self {
                Self {
                    id: message_id,
                    code: ProtosocketControlCode::End.as_u8().into(),
                    ..Self::default()
                }
            }
        }
    };
}

message!(Request);
message!(Response);

impl From<response::Body> for Response {
    fn from(body: response::Body) -> Self {
        Self {
            body: Some(body),
            ..Self::default()
        }
    }
}

/// One client's connection.
#[derive(Clone, Debug, Default)]
pub struct OwnService(Exercise);

impl ConnectionService for OwnService {
    type Codec = Prost<Response, Request>;
    type Request = Request;
    type Response = Response;
    type UnaryFutureType = BoxFuture<'static, Response>;
    type StreamType = BoxStream<'static, Response>;

    fn new_rpc(&mut self, request: Request) -> RpcKind<Self::UnaryFutureType, Self::StreamType> {
        let exercise = self.0.clone();
        match request.body {
            Some(request::Body::Echo(blob)) => unary(ready(response::Body::Echo(blob))),
            Some(request::Body::Gather(seat)) => unary(async move {
                exercise.gather(seat.of).await;
                response::Body::Gather(seat)
            }),
            Some(request::Body::Count(range)) => RpcKind::Streaming(
                exercise
                    .count(range.count, range.then_hang)
                    .map(|value| response::Body::Number(Number { value }).into())
                    .boxed(),
            ),
            Some(request::Body::Hang(_)) => unary(async move {
                exercise.hang().await;
                response::Body::Echo(Blob::default())
            }),
            Some(request::Body::Ended(count)) => unary(async move {
                exercise.ended(count.value).await;
                response::Body::Number(count)
            }),
            Some(request::Body::Refuse(_)) | None => RpcKind::Cancelled,
        }
    }
}

fn unary(
    body: impl std::future::Future<Output = response::Body> + Send + 'static,
) -> RpcKind<BoxFuture<'static, Response>, BoxStream<'static, Response>> {
    RpcKind::Unary(body.map(Response::from).boxed())
}

/// A message that no peer of ours can read: its third field is neither text nor a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Lie {
    #[prost(bytes = "vec", tag = "3")]
    pub nonsense: Vec<u8>,
}

impl Lie {
    /// As bad as it gets.
    pub fn new() -> Self {
        Self {
            nonsense: vec![0xff; 3],
        }
    }
}

impl Message for Lie {
    fn message_id(&self) -> u64 {
        0
    }

    fn control_code(&self) -> ProtosocketControlCode {
        ProtosocketControlCode::Normal
    }

    fn set_message_id(&mut self, _: u64) {}

    fn cancelled(_: u64) -> Self {
        Self::new()
    }

    fn ended(_: u64) -> Self {
        Self::new()
    }
}

/// Answers requests of any type with messages of a wrong one.
#[derive(Clone, Debug, Default)]
pub struct Liar<Q>(PhantomData<Q>);

impl<Q: Message + prost::Message + Default + Clone> ConnectionService for Liar<Q> {
    type Codec = Prost<Lie, Q>;
    type Request = Q;
    type Response = Lie;
    type UnaryFutureType = Ready<Lie>;
    type StreamType = BoxStream<'static, Lie>;

    fn new_rpc(&mut self, _: Q) -> RpcKind<Self::UnaryFutureType, Self::StreamType> {
        RpcKind::Unary(ready(Lie::new()))
    }
}

/// The seat of one that gathers.
pub fn seat(number: u64, of: u64) -> request::Body {
    request::Body::Gather(Seat { number, of })
}
