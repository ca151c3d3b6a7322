//! tonic: one channel for each connection.

use std::net::SocketAddr;

use benchmark::{
    drive,
    proto::benchmark::{bench_client::BenchClient, Echo, Flow},
    run, Client, Outcome,
};
use tonic::transport::{Channel, Endpoint};

struct Tonic(BenchClient<Channel>);

impl Client for Tonic {
    async fn connect(address: SocketAddr) -> Outcome<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let client = BenchClient::new(endpoint.connect().await?);
        let limit = usize::MAX;
        Ok(Self(
            client
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit),
        ))
    }

    async fn unary(&self, request: Echo) -> Outcome<Echo> {
        Ok(self.0.clone().unary(request).await?.into_inner())
    }

    async fn server_stream(&self, flow: Flow) -> Outcome<u64> {
        let mut stream = self.0.clone().server_stream(flow).await?.into_inner();
        let mut count = 0;
        while stream.message().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

fn main() -> Outcome<()> {
    run(drive::<Tonic>())
}
