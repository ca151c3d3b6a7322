//! `PROGRAM server|client ADDRESS [--tls DIRECTORY] [--unverified] [--max-buffer BYTES]
//! [--patience MILLISECONDS] [--liar]`

use std::{future::Future, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::time::timeout;

/// The arguments of a program.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub is_server: bool,
    pub address: SocketAddr,
    /// Of `authority.pem`, `server.pem` and `server_key.pem`.
    pub tls: Option<PathBuf>,
    /// Connect with the crate's own connector for any certificate, which knows no ALPN.
    pub unverified: bool,
    /// The connection's buffer, which is the limit for messages.
    pub max_buffer: usize,
    /// How long a client lets a command take. Well below the time limit of a test.
    pub patience: Duration,
    /// Serve messages of a type that the client does not expect.
    pub liar: bool,
}

impl Arguments {
    /// Those of this process.
    ///
    /// # Panics
    /// If they make no sense.
    pub fn parse() -> Self {
        let mut words = std::env::args().skip(1);
        let mut word = || words.next();
        let mut arguments = Self {
            is_server: word().expect("server or client") == "server",
            address: word()
                .and_then(|word| word.parse().ok())
                .expect("an address"),
            tls: None,
            unverified: false,
            max_buffer: 8 << 20,
            patience: Duration::from_secs(20),
            liar: false,
        };
        while let Some(option) = word() {
            match option.as_str() {
                "--tls" => arguments.tls = word().map(PathBuf::from),
                "--unverified" => arguments.unverified = true,
                "--max-buffer" => {
                    let bytes = word().and_then(|word| word.parse().ok());
                    arguments.max_buffer = bytes.expect("bytes");
                }
                "--patience" => {
                    let milliseconds = word().and_then(|word| word.parse().ok());
                    arguments.patience = Duration::from_millis(milliseconds.expect("milliseconds"));
                }
                "--liar" => arguments.liar = true,
                _ => panic!("there is no {option}"),
            }
        }
        arguments
    }

    /// The line that a command is answered by, which comes in any case.
    pub async fn answer(&self, command: impl Future<Output = Result<String, String>>) -> String {
        match timeout(self.patience, command).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => format!("error {error}"),
            Err(_) => format!("error timed out after {:?}", self.patience),
        }
    }
}
