//! The service that docs/generated-code.md shows, from `struct Service` on, so that it compiles.

use crate::proto::greeter;
use crate::proto::protosocket;

use futures::stream::{self, BoxStream, StreamExt};
use greeter::v1::greeter_protosocket::{Greeter, GreeterServer};
use greeter::v1::{GreetReply, GreetRequest};
use protosocket::rpc::v1::{Context, Status};

#[derive(Debug)]
struct Service;

impl Greeter for Service {
    async fn greet(&self, request: GreetRequest, _: Context) -> Result<GreetReply, Status> {
        let text = format!("Hello, {}!", request.name);
        Ok(GreetReply { text })
    }

    type GreetInEveryLanguageStream = BoxStream<'static, Result<GreetReply, Status>>;

    fn greet_in_every_language(
        &self,
        request: GreetRequest,
        _: Context,
    ) -> Self::GreetInEveryLanguageStream {
        let replies = ["Hello", "Bonjour"].map(|hello| GreetReply {
            text: format!("{hello}, {}!", request.name),
        });
        stream::iter(replies.map(Ok)).boxed()
    }
}

/// What serves a connection.
pub fn service() -> impl protosocket_rpc::server::ConnectionService {
    GreeterServer::new(Service)
}
