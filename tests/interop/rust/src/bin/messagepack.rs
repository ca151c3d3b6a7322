//! The exercise with MessagePack.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{stream::BoxStream, StreamExt};
use interop::{
    arguments::Arguments,
    driver::{drive, text, Answer, Calls},
    notes::{Note, NoteCodec, NoteService},
    transport::{pool, serve},
    Outcome,
};
use protosocket_rpc::client::RpcClient;

struct Client(RpcClient<Note, Note>);

impl Client {
    fn note(&self, verb: &str, number: u64, text: String) -> Note {
        static LAST_ID: AtomicU64 = AtomicU64::new(0);
        Note {
            id: 1 + LAST_ID.fetch_add(1, Ordering::Relaxed),
            verb: verb.to_owned(),
            number,
            text,
            ..Note::default()
        }
    }

    async fn unary(&self, note: Note) -> Answer<Note> {
        self.0.send_unary(note).map_err(text)?.await.map_err(text)
    }
}

impl Calls for Client {
    async fn echo(&self, data: Vec<u8>) -> Answer<Vec<u8>> {
        let letters = data
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        let note = self.note("echo", 1, letters);
        let expected = note.clone();
        let reply = self.unary(note).await?;
        Ok(if reply == expected { data } else { Vec::new() })
    }

    async fn gather(&self, number: u64, of: u64) -> Answer<u64> {
        let note = self.note("gather", number, of.to_string());
        Ok(self.unary(note).await?.number)
    }

    fn count(&self, count: u64, then_hang: bool) -> Answer<BoxStream<'static, Answer<u64>>> {
        let text_ = if then_hang { "then hang" } else { "" };
        let note = self.note("count", count, text_.to_owned());
        let notes = self.0.send_streaming(note).map_err(text)?;
        Ok(notes
            .take_while(|note| {
                let finished = matches!(note, Err(protosocket_rpc::Error::Finished));
                std::future::ready(!finished)
            })
            .map(|note| Ok(note.map_err(text)?.number))
            .boxed())
    }

    async fn hang(&self) -> Answer<()> {
        self.unary(self.note("hang", 0, String::new())).await?;
        Ok(())
    }

    async fn ended(&self, count: u64) -> Answer<u64> {
        let note = self.note("ended", count, String::new());
        Ok(self.unary(note).await?.number)
    }

    async fn refuse(&self) -> Answer<()> {
        self.unary(self.note("refuse", 0, String::new())).await?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Outcome {
    let arguments = Arguments::parse();
    if arguments.is_server {
        return serve(&arguments, NoteService::default()).await;
    }
    let pool = pool::<NoteCodec>(&arguments);
    drive(&arguments, async || pool.get_connection().await.map(Client)).await
}
