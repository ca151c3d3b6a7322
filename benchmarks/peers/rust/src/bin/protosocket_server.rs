//! protosocket-rpc, with the service that this project generates.

use std::time::Duration;

use benchmark::{
    address, payload,
    proto::{
        benchmark::{
            bench_protosocket::{Bench, BenchServer},
            Echo, Flow,
        },
        protosocket::rpc::v1::{Context, FrameCodec, Status},
    },
    run, Outcome,
};
use futures::{stream, stream::BoxStream, StreamExt};
use protosocket::{SocketListener, TcpSocketListener};
use protosocket_rpc::server::{SocketRpcServer, SocketService};

struct Service;

impl Bench for Service {
    async fn unary(&self, request: Echo, _: Context) -> Result<Echo, Status> {
        Ok(request)
    }

    async fn hold(&self, request: Echo, _: Context) -> Result<Echo, Status> {
        tokio::time::sleep(Duration::from_millis(request.number)).await;
        Ok(request)
    }

    async fn burn(&self, _: Echo, _: Context) -> Result<Echo, Status> {
        Err(Status::new(Status::UNIMPLEMENTED, "not measured"))
    }

    type ServerStreamStream = BoxStream<'static, Result<Echo, Status>>;

    fn server_stream(&self, flow: Flow, _: Context) -> Self::ServerStreamStream {
        let message = Echo {
            payload: payload(flow.size as usize),
            ..Echo::default()
        };
        stream::iter((0..flow.count).map(move |_| Ok(message.clone()))).boxed()
    }
}

struct Sockets(BenchServer<Service>);

impl SocketService for Sockets {
    type ConnectionService = BenchServer<Service>;
    type SocketListener = TcpSocketListener;

    fn codec(&mut self) -> FrameCodec {
        FrameCodec::default()
    }

    fn new_stream_service(
        &mut self,
        _: &<TcpSocketListener as SocketListener>::Stream,
    ) -> BenchServer<Service> {
        self.0.clone()
    }
}

fn main() -> Outcome<()> {
    run(async {
        let listener = TcpSocketListener::listen(address(), 1024, None)?;
        let sockets = Sockets(BenchServer::new(Service));
        let server = SocketRpcServer::new(listener, sockets, 1 << 27, 1 << 20, 128)?;
        Ok(server.await?)
    })
}
