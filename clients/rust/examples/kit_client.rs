//! What a program does that the kit for clients judges (docs/protocol.md), here with the queue of this crate.

use nats_identify::NatsQueue;
use tokio::signal::unix::{signal, SignalKind};
use twilight_gateway_queue::Queue;

/// Takes one turn. Where a bot sends IDENTIFY to Discord, this prints that it does.
async fn bring_up(queue: NatsQueue, shard_id: u32) {
    while queue.enqueue(shard_id).await.is_err() {} // a closed receiver: call again, as twilight does
    println!("identify {shard_id}"); // standard output is flushed at each line
}

/// Brings up every shard of the environment, and stays until SIGTERM: copies of a grant may still come.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let queue = NatsQueue::from_env()?;
    let mut terminated = signal(SignalKind::terminate())?;
    for shard_id in std::env::var("SHARD_IDS")?.split(',') {
        tokio::spawn(bring_up(queue.clone(), shard_id.trim().parse()?));
    }
    terminated.recv().await;
    queue.close().await;
    Ok(())
}
