//! The exercise as a service, on what the plugin has generated.

use futures::{
    stream::{self, BoxStream},
    StreamExt,
};
use interop::{
    arguments::Arguments,
    driver::{drive, text, Answer, Calls},
    exercise::Exercise,
    own::Liar,
    proto::{
        interop::v1::{
            exercise_protosocket::{self, ExerciseClient, ExerciseServer},
            Blob, Failure, Nothing, Number, Overheard, Range, Seat,
        },
        protosocket::rpc::v1::{Caller, Context, Frame, FrameCodec, Metadatum, Status},
    },
    transport::{pool, serve},
    Outcome,
};

#[derive(Default)]
struct Service(Exercise);

impl exercise_protosocket::Exercise for Service {
    async fn echo(&self, request: Blob, _: Context) -> Result<Blob, Status> {
        Ok(request)
    }

    async fn gather(&self, request: Seat, _: Context) -> Result<Seat, Status> {
        self.0.clone().gather(request.of).await;
        Ok(request)
    }

    type CountStream = BoxStream<'static, Result<Number, Status>>;

    fn count(&self, request: Range, _: Context) -> Self::CountStream {
        let numbers = self.0.clone().count(request.count, request.then_hang);
        numbers.map(|value| Ok(Number { value })).boxed()
    }

    async fn hang(&self, request: Nothing, _: Context) -> Result<Nothing, Status> {
        self.0.clone().hang().await;
        Ok(request)
    }

    async fn ended(&self, request: Number, _: Context) -> Result<Number, Status> {
        self.0.clone().ended(request.value).await;
        Ok(request)
    }

    async fn fail(&self, request: Failure, _: Context) -> Result<Nothing, Status> {
        Err(Status::new(request.code, request.message))
    }

    type CountAndFailStream = BoxStream<'static, Result<Number, Status>>;

    fn count_and_fail(&self, request: Failure, _: Context) -> Self::CountAndFailStream {
        let failure = Status::new(request.code, request.message);
        stream::iter([Ok(Number { value: 0 }), Err(failure)]).boxed()
    }

    async fn overhear(&self, _: Nothing, context: Context) -> Result<Overheard, Status> {
        let pairs = context.metadata.iter().map(|pair| {
            let value = String::from_utf8_lossy(&pair.value);
            format!("{}={value}", pair.key)
        });
        Ok(Overheard {
            metadata: pairs.collect(),
            has_deadline: context.timeout.is_some(),
        })
    }
}

struct Client(ExerciseClient, Caller);

fn context() -> Context {
    Context::default()
}

impl Calls for Client {
    async fn echo(&self, data: Vec<u8>) -> Answer<Vec<u8>> {
        let reply = self.0.echo(&Blob { data }, context()).await;
        Ok(reply.map_err(text)?.data)
    }

    async fn gather(&self, number: u64, of: u64) -> Answer<u64> {
        let reply = self.0.gather(&Seat { number, of }, context()).await;
        Ok(reply.map_err(text)?.number)
    }

    fn count(&self, count: u64, then_hang: bool) -> Answer<BoxStream<'static, Answer<u64>>> {
        let range = Range { count, then_hang };
        let replies = self.0.count(&range, context()).map_err(text)?;
        let numbers = replies.map(|reply| Ok(reply.map_err(text)?.value));
        Ok(numbers.boxed())
    }

    async fn hang(&self) -> Answer<()> {
        self.0.hang(&Nothing {}, context()).await.map_err(text)?;
        Ok(())
    }

    async fn ended(&self, count: u64) -> Answer<u64> {
        let reply = self.0.ended(&Number { value: count }, context()).await;
        Ok(reply.map_err(text)?.value)
    }

    async fn refuse(&self) -> Answer<()> {
        let nowhere = "/interop.v1.Exercise/Nowhere";
        let reply = self.1.unary(nowhere, &Nothing {}, context()).await;
        reply.map_err(text)
    }

    async fn other(&self, words: &[&str]) -> Answer<String> {
        match words {
            ["fail", code, message] => {
                let code = code.parse().map_err(text)?;
                let message = (*message).to_owned();
                let failure = Failure { code, message };
                let reply = self.0.fail(&failure, context()).await;
                reply.map(|_| "did not fail".to_owned()).map_err(text)
            }
            ["count-and-fail", code, message] => {
                let code = code.parse().map_err(text)?;
                let message = (*message).to_owned();
                let failure = Failure { code, message };
                let replies = self.0.count_and_fail(&failure, context()).map_err(text)?;
                let said = replies.map(|reply| match reply {
                    Ok(number) => number.value.to_string(),
                    Err(status) => text(status),
                });
                Ok(said.collect::<Vec<String>>().await.join(", "))
            }
            ["overhear", key, value, milliseconds] => {
                let milliseconds = milliseconds.parse().map_err(text)?;
                let context = Context {
                    metadata: vec![Metadatum {
                        key: (*key).to_owned(),
                        value: (*value).into(),
                    }],
                    timeout: Some(std::time::Duration::from_millis(milliseconds)),
                };
                let reply = self.0.overhear(&Nothing {}, context).await.map_err(text)?;
                let deadline = reply.has_deadline;
                Ok(format!("{}, deadline {deadline}", reply.metadata.join(" ")))
            }
            ["hurry", milliseconds] => {
                let milliseconds = milliseconds.parse().map_err(text)?;
                let context = Context {
                    timeout: Some(std::time::Duration::from_millis(milliseconds)),
                    ..Context::default()
                };
                let reply = self.0.hang(&Nothing {}, context).await;
                reply.map(|_| "answered".to_owned()).map_err(text)
            }
            _ => Err(format!("there is no {}", words.join(" "))),
        }
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse();
    if arguments.liar {
        return serve(&arguments, Liar::<Frame>::default()).await;
    }
    if arguments.is_server {
        return serve(&arguments, ExerciseServer::new(Service::default())).await;
    }
    let pool = pool::<FrameCodec>(&arguments);
    drive(&arguments, async || {
        let caller = Caller::new(pool.get_connection().await?);
        Ok(Client(ExerciseClient::new(caller.clone()), caller))
    })
    .await
}
