//! What the clients do, whatever their messages are.

use std::{fmt::Display, future::Future, pin::Pin};

use futures::{
    poll,
    stream::{BoxStream, FuturesUnordered},
    StreamExt,
};
use tokio::io::{stdin, AsyncBufReadExt, BufReader};

use crate::{arguments::Arguments, Outcome};

/// What came of an RPC: something, or how it failed.
pub type Answer<T> = Result<T, String>;

/// The exercise over one connection.
pub trait Calls: Send + Sync + 'static {
    fn echo(&self, data: Vec<u8>) -> impl Future<Output = Answer<Vec<u8>>> + Send;
    fn gather(&self, number: u64, of: u64) -> impl Future<Output = Answer<u64>> + Send;
    fn count(&self, count: u64, then_hang: bool) -> Answer<BoxStream<'static, Answer<u64>>>;
    fn hang(&self) -> impl Future<Output = Answer<()>> + Send;
    fn ended(&self, count: u64) -> impl Future<Output = Answer<u64>> + Send;
    fn refuse(&self) -> impl Future<Output = Answer<()>> + Send;

    /// What only this kind of messages can do.
    fn other(&self, words: &[&str]) -> impl Future<Output = Answer<String>> + Send {
        let unknown = Err(format!("there is no {}", words.join(" ")));
        async move { unknown }
    }
}

/// The text of an error.
pub fn text(error: impl Display) -> String {
    error.to_string()
}

/// Does what the lines of standard input say: one line of output for each, or more.
///
/// # Errors
/// What standard input does.
pub async fn drive<C, F>(arguments: &Arguments, connect: impl Fn() -> F) -> Outcome
where
    C: Calls,
    F: Future<Output = protosocket_rpc::Result<C>>,
{
    println!("ready");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        let command = async {
            let calls = connect().await.map_err(text)?;
            perform(&calls, &words).await
        };
        println!("{}", arguments.answer(command).await);
    }
    Ok(())
}

async fn perform(calls: &impl Calls, words: &[&str]) -> Answer<String> {
    let number = |index: usize| words[index].parse::<u64>().map_err(text);
    match words[0] {
        "echo" => echo(calls, number(1)?).await,
        "gather" => gather(calls, number(1)?).await,
        "count" => count(calls, number(1)?).await,
        "take" => take(calls, number(1)?).await,
        "watch" => watch(calls, number(1)?).await,
        "drop" => {
            drop(hang(calls).await?);
            Ok("dropped".to_owned())
        }
        "give-up" => give_up(calls, number(1)?).await,
        "wait" => {
            let call = hang(calls).await?;
            println!("waiting");
            call.await.map(|()| "answered".to_owned())
        }
        "ended" => {
            let ended = calls.ended(number(1)?).await?;
            Ok(format!("ended {ended}"))
        }
        "refuse" => calls.refuse().await.map(|()| "not refused".to_owned()),
        _ => calls.other(words).await,
    }
}

/// A call that hangs on the server: what leaves after it by the same client was answered.
///
/// The crate keeps no order between a call and its cancellation, and forgets to end a call that
/// waits to be sent when its connection is lost.
async fn hang<C: Calls>(
    calls: &C,
) -> Answer<Pin<Box<impl Future<Output = Answer<()>> + use<'_, C>>>> {
    let mut call = Box::pin(calls.hang());
    if poll!(&mut call).is_ready() {
        return Err("it did not hang".to_owned());
    }
    calls.echo(Vec::new()).await?;
    Ok(call)
}

/// Calls that are dropped as soon as they are made, some of whose cancellations may leave first.
async fn give_up(calls: &impl Calls, count: u64) -> Answer<String> {
    for _ in 0..count {
        if poll!(Box::pin(calls.hang())).is_ready() {
            return Err("it did not hang".to_owned());
        }
    }
    Ok(format!("gave up {count}"))
}

async fn echo(calls: &impl Calls, size: u64) -> Answer<String> {
    let data: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
    let echoed = calls.echo(data.clone()).await?;
    Ok(match echoed == data {
        true => format!("echoed {size}"),
        false => format!("echoed {} bytes that differ", echoed.len()),
    })
}

/// So many RPCs at a time, none of which is answered before all are asked.
async fn gather(calls: &impl Calls, of: u64) -> Answer<String> {
    let all = (0..of).map(|number| async move {
        let answered = calls.gather(number, of).await?;
        match answered == number {
            true => Ok(()),
            false => Err(format!("{answered} in reply to {number}")),
        }
    });
    let answers: Vec<Answer<()>> = all.collect::<FuturesUnordered<_>>().collect().await;
    answers.into_iter().collect::<Answer<Vec<()>>>()?;
    Ok(format!("gathered {of}"))
}

/// A stream up to its end.
async fn count(calls: &impl Calls, count: u64) -> Answer<String> {
    let numbers: Vec<_> = calls.count(count, false)?.collect().await;
    let numbers = numbers.into_iter().collect::<Answer<Vec<u64>>>()?;
    Ok(match numbers.iter().copied().eq(0..count) {
        true => format!("counted {count}"),
        false => format!("counted {numbers:?}"),
    })
}

/// The first items of a stream that goes on, which is dropped then.
async fn take(calls: &impl Calls, count: u64) -> Answer<String> {
    let stream = calls.count(count, true)?;
    let numbers: Vec<_> = stream.take(count as usize).collect().await;
    Ok(format!("took {}", numbers.len()))
}

/// A stream that goes on until somebody ends it; says so once it hangs.
async fn watch(calls: &impl Calls, count: u64) -> Answer<String> {
    let mut stream = calls.count(count, true)?;
    for _ in 0..count {
        stream.next().await.unwrap_or(Err("ended".to_owned()))?;
    }
    println!("watching {count}");
    match stream.next().await {
        None => Ok("finished".to_owned()),
        Some(Ok(number)) => Ok(format!("another: {number}")),
        Some(Err(error)) => Err(error),
    }
}
