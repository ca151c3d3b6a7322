//! protosocket-rpc, with the client that this project generates.

use std::net::SocketAddr;

use benchmark::{
    drive,
    proto::{
        benchmark::{bench_protosocket::BenchClient, Echo, Flow},
        protosocket::rpc::v1::{Caller, Context, FrameCodec},
    },
    run, Client, Outcome,
};
use futures::TryStreamExt;
use protosocket_rpc::client::{connect, Configuration, TcpStreamConnector};

struct Protosocket(BenchClient);

impl Client for Protosocket {
    async fn connect(address: SocketAddr) -> Outcome<Self> {
        let mut configuration = Configuration::new(TcpStreamConnector);
        configuration.max_buffer_length(1 << 27);
        let (client, connection) = connect::<FrameCodec, _>(address, &configuration).await?;
        tokio::spawn(connection);
        Ok(Self(BenchClient::new(Caller::new(client))))
    }

    async fn unary(&self, request: Echo) -> Outcome<Echo> {
        Ok(self.0.unary(&request, Context::default()).await?)
    }

    async fn server_stream(&self, flow: Flow) -> Outcome<u64> {
        let replies = self.0.server_stream(&flow, Context::default())?;
        let count = replies.try_fold(0, |count, _| std::future::ready(Ok(count + 1)));
        Ok(count.await?)
    }
}

fn main() -> Outcome<()> {
    run(drive::<Protosocket>())
}
