//! What benchmarks/work.py and benchmarks/histogram.py say, in Rust; and what is generated.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    io::{stdin, BufRead, Write as _},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

/// Messages by prost, services by tonic and by this project's plugin.
pub mod proto {
    pub mod benchmark {
        include!(concat!(env!("OUT_DIR"), "/benchmark.rs"));
        include!(concat!(env!("GENERATED"), "/echo_protosocket.rs"));
    }
    pub mod protosocket {
        pub mod rpc {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/protosocket.rpc.v1.rs"));
                include!(concat!(env!("GENERATED"), "/protosocket_frame.rs"));
            }
        }
    }
}

use proto::benchmark::{Echo, Flow};

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const TEXT: &str = "hello world";

/// The same bytes in every peer.
pub fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|index| index as u8).collect()
}

/// Where the server is: the one argument that these peers can do something with.
pub fn address() -> SocketAddr {
    let mut words = std::env::args().skip_while(|word| word != "--address");
    let address = words.nth(1).and_then(|word| word.parse().ok());
    address.expect("--address HOST:PORT")
}

/// One core, one thread.
pub fn run<T>(main: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, main)
}

/// A connection, and the calls of `Bench` on it.
pub trait Client: Sized + 'static {
    fn connect(address: SocketAddr) -> impl Future<Output = Outcome<Self>>;
    fn unary(&self, request: Echo) -> impl Future<Output = Outcome<Echo>>;
    /// The number of messages in the stream.
    fn server_stream(&self, flow: Flow) -> impl Future<Output = Outcome<u64>>;
}

/// One measurement.
struct Work(BTreeMap<String, String>);

impl Work {
    fn parse(line: &str) -> Self {
        let pairs = line
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn count(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    fn seconds(&self, key: &str) -> Duration {
        Duration::from_secs_f64(self.text(key).parse().unwrap_or(0.0))
    }

    /// A request of this work's size.
    fn message(&self, number: u64) -> Echo {
        let size = self.count("size") as usize;
        let small = size == TEXT.len();
        Echo {
            text: if small {
                TEXT.to_owned()
            } else {
                String::new()
            },
            number,
            payload: if small { Vec::new() } else { payload(size) },
        }
    }
}

#[derive(Default)]
struct Measured {
    calls: u64,
    length: Duration,
    latency: BTreeMap<u64, u64>,
}

impl Measured {
    fn record(&mut self, latency: Duration) {
        let value = latency.as_nanos() as u64;
        let shift = u64::from((64 - value.leading_zeros()).saturating_sub(7));
        *self
            .latency
            .entry((shift << 6) + (value >> shift))
            .or_default() += 1;
        self.calls += 1;
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        for (bucket, count) in other.latency {
            *self.latency.entry(bucket).or_default() += count;
        }
    }

    fn json(&self) -> String {
        let mut latency = String::new();
        for (bucket, count) in &self.latency {
            let comma = if latency.is_empty() { "" } else { ", " };
            write!(latency, "{comma}\"{bucket}\": {count}").expect("a string takes it");
        }
        format!(
            "{{\"calls\": {}, \"seconds\": {:.9}, \"background\": 0, \"unanswered\": 0, \
             \"latency\": {{{latency}}}, \"lateness\": {{}}}}",
            self.calls,
            self.length.as_secs_f64()
        )
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout();
    writeln!(output, "{line}").expect("somebody listens");
    output.flush().expect("somebody listens");
}

/// Does the works of standard input.
pub async fn drive<C: Client>() -> Outcome<()> {
    for line in stdin().lock().lines() {
        match measure::<C>(&Work::parse(&line?)).await {
            Ok(measured) => say(&measured.json()),
            Err(error) => say(&format!("{{\"error\": {:?}}}", error.to_string())),
        }
    }
    Ok(())
}

async fn measure<C: Client>(work: &Work) -> Outcome<Measured> {
    let connecting = (0..work.count("connections")).map(|_| C::connect(address()));
    let connections = try_join_all(connecting).await?;
    let connections: Vec<Rc<C>> = connections.into_iter().map(Rc::new).collect();
    let warmup = work.seconds("warmup");
    if !warmup.is_zero() {
        perform(work, &connections, warmup).await?;
    }
    say("{\"event\": \"begin\"}");
    let measured = perform(work, &connections, work.seconds("seconds")).await;
    say("{\"event\": \"end\"}");
    measured
}

async fn perform<C: Client>(work: &Work, all: &[Rc<C>], length: Duration) -> Outcome<Measured> {
    match work.text("kind") {
        "unary" => closed_loop(work, all, length).await,
        "server_stream" => streams(work, all, length).await,
        kind => Err(format!("unknown kind of work: {kind}").into()),
    }
}

async fn closed_loop<C: Client>(work: &Work, all: &[Rc<C>], length: Duration) -> Outcome<Measured> {
    let concurrency = work.count("concurrency");
    let begin = Instant::now();
    let callers = (0..concurrency).map(|caller| {
        let connection = &all[caller as usize % all.len()];
        async move {
            let mut measured = Measured::default();
            let mut started = Instant::now();
            loop {
                let number = caller + measured.calls * concurrency;
                let reply = connection.unary(work.message(number)).await?;
                if reply.number != number {
                    return Outcome::Err("wrong reply".into());
                }
                let now = Instant::now();
                measured.record(now - started);
                if now - begin >= length {
                    return Ok(measured);
                }
                started = now;
            }
        }
    });
    let each = try_join_all(callers).await?;
    let mut measured = Measured::default();
    each.into_iter().for_each(|other| measured.add(other));
    measured.length = begin.elapsed();
    Ok(measured)
}

/// Streams of equal length, one after the other; long enough that opening one hardly counts.
async fn streams<C: Client>(work: &Work, all: &[Rc<C>], length: Duration) -> Outcome<Measured> {
    let (concurrency, size) = (work.count("concurrency"), work.count("size"));
    let stream = |worker: u64, count: u64| async move {
        let connection = &all[worker as usize % all.len()];
        match connection.server_stream(Flow { count, size }).await? {
            received if received == count => Ok(()),
            _ => Outcome::Err("wrong number of messages".into()),
        }
    };
    let least = 20.max(500.min((1 << 20) / size) / concurrency);
    let begin = Instant::now();
    try_join_all((0..concurrency).map(|worker| stream(worker, least))).await?;
    let now = Instant::now();
    let per_message = (now - begin).as_secs_f64() / least as f64;
    let count = least.max((length.as_secs_f64() / 3.0 / per_message) as u64);
    let workers = (0..concurrency).map(|worker| async move {
        let mut calls = 0;
        while now.elapsed() < length {
            stream(worker, count).await?;
            calls += count;
        }
        Outcome::Ok(calls)
    });
    // What has told the time counts as well: its CPU time does.
    let calls: u64 = try_join_all(workers).await?.iter().sum();
    Ok(Measured {
        calls: calls + least * concurrency,
        length: begin.elapsed(),
        ..Measured::default()
    })
}
