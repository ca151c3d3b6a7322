//! TCP, with or without TLS, for servers and clients of any message.

use std::{fmt, io, marker::PhantomData, sync::Arc};

use protosocket::{Codec, Decoder, Encoder, SocketListener, TcpSocketListener, TlsSocketListener};
use protosocket_rpc::{
    client::{
        ClientConnector, Configuration, ConnectionPool, RpcClient, StreamConnector,
        UnverifiedTlsStreamConnector,
    },
    server::{ConnectionService, SocketRpcServer, SocketService},
    Message,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    rustls::{
        pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName},
        ClientConfig, RootCertStore, ServerConfig,
    },
    TlsConnector,
};

use crate::{
    arguments::Arguments,
    broken::{self, Broken, BrokenService},
    Outcome,
};

/// The ALPN protocol of service calls.
fn alpn() -> Vec<Vec<u8>> {
    let name: &[u8] = match broken::is("alpn") {
        true => b"h2",
        false => b"protosocket/1",
    };
    vec![name.to_vec()]
}

struct Sockets<S, L>(S, PhantomData<fn() -> L>);

impl<S, L> SocketService for Sockets<S, L>
where
    S: ConnectionService + Clone,
    S::Codec: Default,
    L: SocketListener + 'static,
{
    type ConnectionService = S;
    type SocketListener = L;

    fn codec(&mut self) -> S::Codec {
        S::Codec::default()
    }

    fn new_stream_service(&mut self, _: &L::Stream) -> S {
        self.0.clone()
    }
}

/// The listener for the arguments' address.
pub fn listen(arguments: &Arguments) -> io::Result<TcpSocketListener> {
    TcpSocketListener::listen(arguments.address, 1024, None)
}

/// Serves clones of a service to all connections, until the process ends.
pub async fn serve<S>(arguments: &Arguments, service: S) -> Outcome
where
    S: ConnectionService + Clone + Send,
    S::Codec: Default + Send,
    <S::Codec as Encoder>::Serialized: Send,
    S::UnaryFutureType: Send,
    S::StreamType: Send,
{
    if broken::any() {
        return serve_as_it_is(arguments, BrokenService(service)).await;
    }
    serve_as_it_is(arguments, service).await
}

async fn serve_as_it_is<S>(arguments: &Arguments, service: S) -> Outcome
where
    S: ConnectionService + Clone + Send,
    S::Codec: Default + Send,
    <S::Codec as Encoder>::Serialized: Send,
    S::UnaryFutureType: Send,
    S::StreamType: Send,
{
    let listener = listen(arguments)?;
    match &arguments.tls {
        None => accept(arguments, listener, service).await,
        Some(directory) => {
            let name = match broken::is("certificate") {
                true => "client",
                false => "server",
            };
            let chain = CertificateDer::pem_file_iter(directory.join(format!("{name}.pem")))?;
            let mut config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(
                    chain.collect::<Result<_, _>>()?,
                    PrivateKeyDer::from_pem_file(directory.join(format!("{name}_key.pem")))?,
                )?;
            config.alpn_protocols = alpn();
            accept(
                arguments,
                TlsSocketListener::wrap(listener, config),
                service,
            )
            .await
        }
    }
}

async fn accept<S, L>(arguments: &Arguments, listener: L, service: S) -> Outcome
where
    S: ConnectionService + Clone + Send,
    S::Codec: Default + Send,
    <S::Codec as Encoder>::Serialized: Send,
    S::UnaryFutureType: Send,
    S::StreamType: Send,
    L: SocketListener + 'static,
    L::Stream: Send,
{
    let sockets = Sockets(service, PhantomData);
    let server = SocketRpcServer::new(listener, sockets, arguments.max_buffer, 1 << 16, 128)?;
    println!("ready");
    Ok(server.await?)
}

/// A stream of bytes, whatever is below it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects as the arguments say.
pub struct Connector<C>(Arguments, PhantomData<fn() -> C>);

impl<C> Clone for Connector<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<C> fmt::Debug for Connector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.0).finish()
    }
}

impl<C> StreamConnector for Connector<C> {
    type Stream = Box<dyn Duplex>;

    async fn connect_stream(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let Some(directory) = &self.0.tls else {
            return Ok(Box::new(stream));
        };
        if self.0.unverified {
            let connector = UnverifiedTlsStreamConnector::new(name);
            return Ok(Box::new(connector.connect_stream(stream).await?));
        }
        let authority = match broken::is("certificate") {
            true => "client.pem",
            false => "authority.pem",
        };
        let authority = CertificateDer::from_pem_file(directory.join(authority));
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

/// A pool of one connection, which is made anew when it is lost.
pub type Pool<C> = ConnectionPool<Connector<C>>;

/// The pool of a client whose messages are written by a codec.
pub fn pool<C>(arguments: &Arguments) -> Pool<C>
where
    Connector<C>: ClientConnector,
{
    ConnectionPool::new(Connector(arguments.clone(), PhantomData), 1)
}

impl<C> ClientConnector for Connector<C>
where
    C: Codec + Default + Send + 'static,
    <C as Encoder>::Message: Message,
    <C as Encoder>::Serialized: Send,
    <C as Decoder>::Message: Message,
{
    type Request = <C as Encoder>::Message;
    type Response = <C as Decoder>::Message;

    async fn connect(self) -> protosocket_rpc::Result<RpcClient<Self::Request, Self::Response>> {
        if broken::any() {
            return connect::<Broken<C>, _>(self).await;
        }
        connect::<C, _>(self).await
    }
}

async fn connect<C, D>(
    connector: Connector<D>,
) -> protosocket_rpc::Result<RpcClient<<C as Encoder>::Message, <C as Decoder>::Message>>
where
    C: Codec + Default + Send + 'static,
    <C as Encoder>::Message: Message,
    <C as Encoder>::Serialized: Send,
    <C as Decoder>::Message: Message,
    D: 'static,
{
    let arguments = connector.0.clone();
    let mut configuration = Configuration::new(connector);
    configuration.max_buffer_length(arguments.max_buffer);
    configuration.buffer_allocation_increment(1 << 16);
    let (client, connection) =
        protosocket_rpc::client::connect::<C, _>(arguments.address, &configuration).await?;
    tokio::spawn(connection);
    Ok(client)
}
