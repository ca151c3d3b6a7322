//! What the servers do, whatever their messages are.

use std::sync::{Arc, Mutex};

use futures::{stream, Stream, StreamExt};
use tokio::sync::{oneshot, watch};

/// Shared by all connections of a server.
#[derive(Clone, Debug, Default)]
pub struct Exercise(Arc<State>);

#[derive(Debug, Default)]
struct State {
    seats: Mutex<Vec<oneshot::Sender<()>>>,
    ended: watch::Sender<u64>,
}

/// Counts an RPC as cut short when it is dropped.
struct CutShort(Exercise);

impl Drop for CutShort {
    fn drop(&mut self) {
        self.0 .0.ended.send_modify(|ended| *ended += 1);
    }
}

impl Exercise {
    /// Waits until so many do, and lets the last go first.
    pub async fn gather(self, of: u64) {
        let (sender, seat) = oneshot::channel();
        {
            let mut seats = self.0.seats.lock().expect("no thread panicked");
            seats.push(sender);
            if seats.len() as u64 == of {
                for sender in seats.drain(..).rev() {
                    // One that was cancelled waits no more.
                    let _ = sender.send(());
                }
            }
        }
        seat.await.expect("its sender is kept until then");
    }

    /// Never ends.
    pub async fn hang(self) {
        let _cut_short = CutShort(self);
        std::future::pending().await
    }

    /// Numbers from 0 on.
    pub fn count(self, count: u64, then_hang: bool) -> impl Stream<Item = u64> + Send {
        let hanging = stream::once(std::future::pending());
        let rest = hanging.take(usize::from(then_hang));
        let cut_short = then_hang.then(|| CutShort(self));
        stream::iter(0..count).chain(rest).map(move |number| {
            let _keep = &cut_short;
            number
        })
    }

    /// Waits until so many RPCs were cut short.
    pub async fn ended(self, count: u64) {
        let mut ended = self.0.ended.subscribe();
        let reached = ended.wait_for(|ended| *ended >= count).await;
        reached.expect("its sender is kept until then");
    }
}
