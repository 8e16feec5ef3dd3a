//! Shards of twilight in one process, in the queue. Each prints `ready <shard_id>`; they run until SIGTERM.
//!
//! It reads the variables of the queue, and `SHARD_IDS` (such as `0,1`), `SHARD_COUNT`, `DISCORD_TOKEN` and, where it
//! is not Discord's, `GATEWAY_URL`. Without `DISCORD_TOKEN` it uses one for the simulated gateway. `BUSY_MS` keeps each
//! shard's task busy for so long after each HELLO: a turn that comes meanwhile is not used late.

use std::time::Duration;

use nats_identify::NatsQueue;
use tokio::signal::unix::{signal, SignalKind};
use twilight_gateway::{ConfigBuilder, Event, EventTypeFlags, Intents, Shard, ShardId, StreamExt};

async fn run(mut shard: Shard<NatsQueue>, queue: NatsQueue, busy: Duration) {
    let shard_id = shard.id().number();
    while let Some(received) = shard.next_event(EventTypeFlags::all()).await {
        match received {
            Ok(event) => {
                queue.observe(shard_id, &event);
                match event {
                    Event::Ready(_) => println!("ready {shard_id}"),
                    Event::GatewayHello(_) => tokio::time::sleep(busy).await,
                    _ => {}
                }
            }
            Err(error) => tracing::warn!("shard {shard_id}: {error}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    rustls::crypto::ring::default_provider().install_default().expect("none is installed yet");
    let variable = |name: &str| std::env::var(name).ok();
    let token = variable("DISCORD_TOKEN").unwrap_or_else(|| "MTAw.simulated.token".to_owned());
    let shard_count: u32 = variable("SHARD_COUNT").unwrap_or_else(|| "1".to_owned()).parse()?;
    let busy = Duration::from_millis(variable("BUSY_MS").unwrap_or_else(|| "0".to_owned()).parse()?);
    let queue = NatsQueue::from_env()?;
    let mut terminated = signal(SignalKind::terminate())?;
    for shard_id in variable("SHARD_IDS").unwrap_or_else(|| "0".to_owned()).split(',') {
        let id = ShardId::new(shard_id.trim().parse()?, shard_count);
        let mut config = ConfigBuilder::new(token.clone(), Intents::GUILDS).queue(queue.clone());
        if let Some(url) = variable("GATEWAY_URL") {
            config = config.proxy_url(url);
        }
        tokio::spawn(run(Shard::with_config(id, config.build()), queue.clone(), busy));
    }
    terminated.recv().await;
    queue.close().await;
    Ok(())
}
