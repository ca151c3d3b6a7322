//! tonic's own server.

use std::time::Duration;

use benchmark::{
    address, payload,
    proto::benchmark::{
        bench_server::{Bench, BenchServer},
        Echo, Flow,
    },
    run, Outcome,
};
use futures::{stream, stream::BoxStream, StreamExt};
use tonic::{transport::Server, Request, Response, Result, Status, Streaming};

struct Service;

#[tonic::async_trait]
impl Bench for Service {
    async fn unary(&self, request: Request<Echo>) -> Result<Response<Echo>> {
        Ok(Response::new(request.into_inner()))
    }

    async fn hold(&self, request: Request<Echo>) -> Result<Response<Echo>> {
        let request = request.into_inner();
        tokio::time::sleep(Duration::from_millis(request.number)).await;
        Ok(Response::new(request))
    }

    async fn burn(&self, _: Request<Echo>) -> Result<Response<Echo>> {
        Err(Status::unimplemented("not measured"))
    }

    type ServerStreamStream = BoxStream<'static, Result<Echo>>;

    async fn server_stream(
        &self,
        flow: Request<Flow>,
    ) -> Result<Response<Self::ServerStreamStream>> {
        let flow = flow.into_inner();
        let message = Echo {
            payload: payload(flow.size as usize),
            ..Echo::default()
        };
        let messages = (0..flow.count).map(move |_| Ok(message.clone()));
        Ok(Response::new(stream::iter(messages).boxed()))
    }

    async fn client_stream(&self, _: Request<Streaming<Echo>>) -> Result<Response<Echo>> {
        Err(Status::unimplemented("not measured"))
    }

    type BidiStreamStream = BoxStream<'static, Result<Echo>>;

    async fn bidi_stream(
        &self,
        _: Request<Streaming<Echo>>,
    ) -> Result<Response<Self::BidiStreamStream>> {
        Err(Status::unimplemented("not measured"))
    }
}

fn main() -> Outcome<()> {
    run(async {
        let service = BenchServer::new(Service)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let server = Server::builder().tcp_nodelay(true).add_service(service);
        Ok(server.serve(address()).await?)
    })
}
