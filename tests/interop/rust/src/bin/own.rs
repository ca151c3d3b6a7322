//! The exercise with protobuf messages of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{stream::BoxStream, StreamExt};
use interop::{
    arguments::Arguments,
    driver::{drive, text, Answer, Calls},
    own::{Liar, OwnService},
    proto::interop::v1::{
        request, response, Blob, Nothing, Number, Range, Request, Response, Seat,
    },
    transport::{pool, serve},
    Outcome, Prost,
};
use protosocket_rpc::client::RpcClient;

struct Client(RpcClient<Request, Response>);

fn request(body: request::Body) -> Request {
    static LAST_ID: AtomicU64 = AtomicU64::new(0);
    Request {
        id: 1 + LAST_ID.fetch_add(1, Ordering::Relaxed),
        body: Some(body),
        ..Request::default()
    }
}

impl Client {
    async fn unary(&self, body: request::Body) -> Answer<response::Body> {
        let completion = self.0.send_unary(request(body)).map_err(text)?;
        let response = completion.await.map_err(text)?;
        response.body.ok_or("an answer without a body".to_owned())
    }
}

impl Calls for Client {
    async fn echo(&self, data: Vec<u8>) -> Answer<Vec<u8>> {
        match self.unary(request::Body::Echo(Blob { data })).await? {
            response::Body::Echo(blob) => Ok(blob.data),
            other => Err(format!("{other:?}")),
        }
    }

    async fn gather(&self, number: u64, of: u64) -> Answer<u64> {
        match self
            .unary(request::Body::Gather(Seat { number, of }))
            .await?
        {
            response::Body::Gather(seat) => Ok(seat.number),
            other => Err(format!("{other:?}")),
        }
    }

    fn count(&self, count: u64, then_hang: bool) -> Answer<BoxStream<'static, Answer<u64>>> {
        let body = request::Body::Count(Range { count, then_hang });
        let responses = self.0.send_streaming(request(body)).map_err(text)?;
        Ok(responses
            .take_while(|response| {
                let finished = matches!(response, Err(protosocket_rpc::Error::Finished));
                std::future::ready(!finished)
            })
            .map(|response| match response.map_err(text)?.body {
                Some(response::Body::Number(number)) => Ok(number.value),
                other => Err(format!("{other:?}")),
            })
            .boxed())
    }

    async fn hang(&self) -> Answer<()> {
        self.unary(request::Body::Hang(Nothing {})).await?;
        Ok(())
    }

    async fn ended(&self, count: u64) -> Answer<u64> {
        let count = Number { value: count };
        match self.unary(request::Body::Ended(count)).await? {
            response::Body::Number(number) => Ok(number.value),
            other => Err(format!("{other:?}")),
        }
    }

    async fn refuse(&self) -> Answer<()> {
        self.unary(request::Body::Refuse(Nothing {})).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse();
    if arguments.liar {
        return serve(&arguments, Liar::<Request>::default()).await;
    }
    if arguments.is_server {
        return serve(&arguments, OwnService::default()).await;
    }
    let pool = pool::<Prost<Request, Response>>(&arguments);
    drive(&arguments, async || pool.get_connection().await.map(Client)).await
}
