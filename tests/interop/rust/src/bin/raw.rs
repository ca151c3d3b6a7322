//! No RPC: a server that sends every message back, and a client that counts what comes back.

use std::{fmt::Debug, marker::PhantomData};

use interop::{arguments::Arguments, broken, own::Lie, proto::interop::v1::Blob, Outcome, Prost};
use protosocket::{Connection, MessageReactor, ReactorStatus, TcpSocketListener};
use protosocket_server::{ProtosocketServerConfig, ServerConnector};
use tokio::{
    io::{stdin, AsyncBufReadExt, BufReader},
    net::TcpStream,
    sync::watch,
};

struct Echo(spillway::Sender<Blob>);

impl MessageReactor for Echo {
    type Codec = Prost<Blob, Blob>;
    type Inbound = Blob;
    type Outbound = Blob;
    type LogicalOutbound = Blob;

    fn on_inbound_message(&mut self, mut message: Blob) -> ReactorStatus {
        message.data = broken::bytes(message.data);
        match self.0.send(message) {
            Ok(()) => ReactorStatus::Continue,
            Err(_) => ReactorStatus::Disconnect,
        }
    }

    fn on_outbound_message(&mut self, message: Blob) -> Blob {
        message
    }
}

struct Connector;

impl ServerConnector for Connector {
    type Codec = Prost<Blob, Blob>;
    type Reactor = Echo;
    type SocketListener = TcpSocketListener;

    fn codec(&mut self) -> Self::Codec {
        Self::Codec::default()
    }

    fn new_reactor(
        &mut self,
        outbound: spillway::Sender<Blob>,
        _: &<TcpSocketListener as protosocket::SocketListener>::Stream,
    ) -> Echo {
        Echo(outbound)
    }

    fn spawn_connection(
        &self,
        connection: Connection<<TcpSocketListener as protosocket::SocketListener>::Stream, Echo>,
    ) {
        tokio::spawn(connection);
    }
}

struct Counter<M>(watch::Sender<usize>, PhantomData<fn() -> M>);

impl<M: prost::Message + Debug + 'static> MessageReactor for Counter<M> {
    type Codec = Prost<M, Blob>;
    type Inbound = Blob;
    type Outbound = M;
    type LogicalOutbound = M;

    fn on_inbound_message(&mut self, message: Blob) -> ReactorStatus {
        let expected = message.data.iter().filter(|byte| **byte == 7).count();
        self.0.send_modify(|bytes| *bytes += expected);
        ReactorStatus::Continue
    }

    fn on_outbound_message(&mut self, message: M) -> M {
        message
    }
}

/// `COUNT SIZE`: sends that many messages of that size, and waits for as many bytes.
async fn client<M>(arguments: &Arguments, message: impl Fn(usize) -> M) -> Outcome
where
    M: prost::Message + Debug + Default + 'static,
{
    let stream = TcpStream::connect(arguments.address).await?;
    let (outbound, messages) = spillway::channel();
    let (counter, mut counted) = watch::channel(0);
    let connection = Connection::new(
        stream,
        Prost::<M, Blob>::default(),
        arguments.max_buffer,
        1 << 16,
        128,
        messages,
        Counter(counter, PhantomData),
    );
    tokio::spawn(connection);
    println!("ready");
    let mut lines = BufReader::new(stdin()).lines();
    let mut expected = 0;
    while let Some(line) = lines.next_line().await? {
        let (count, size) = line.split_once(' ').expect("a count and a size");
        let (count, size): (usize, usize) = (count.parse()?, size.parse()?);
        expected += count * size;
        for _ in 0..count {
            // If the connection is gone, the wait below says so.
            let _ = outbound.send(message(size));
        }
        let command = async {
            let echoed = counted.wait_for(|bytes| *bytes == expected).await;
            echoed.map_err(|_| "the connection is gone".to_owned())?;
            Ok(format!("echoed {expected}"))
        };
        println!("{}", arguments.answer(command).await);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse();
    if !arguments.is_server && arguments.liar {
        return client(&arguments, |_| Lie::new()).await;
    }
    if !arguments.is_server {
        return client(&arguments, |size| Blob {
            data: vec![7; size],
        })
        .await;
    }
    let config = ProtosocketServerConfig::default().max_buffer_length(arguments.max_buffer);
    let server = config.bind_tcp(arguments.address, Connector)?;
    println!("ready");
    Ok(server.await?)
}
