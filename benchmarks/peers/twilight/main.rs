//! twilight's InMemoryQueue behind the lines that benchmarks/peers/program_queue.py describes.

use std::{collections::HashMap, io::BufRead, thread, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};
use twilight_gateway_queue::{InMemoryQueue, Queue};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (sender, mut lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut queue: Option<InMemoryQueue> = None;
    let mut waiting: HashMap<u64, JoinHandle<()>> = HashMap::new();
    while let Some(line) = lines.recv().await {
        let (order, numbers) = line.split_once(' ').unwrap_or((&line, ""));
        let numbers: Vec<u64> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
        match (order, numbers.as_slice()) {
            ("limits", &[buckets, remaining, reset_after_ms, total]) => {
                let (buckets, remaining, total) = (buckets as u16, remaining as u32, total as u32);
                let reset_after = Duration::from_millis(reset_after_ms);
                match &queue {
                    Some(queue) => queue.update(buckets, remaining, reset_after, total),
                    None => queue = Some(InMemoryQueue::new(buckets, remaining, reset_after, total)),
                }
            }
            ("ask", &[number, shard]) => {
                let permit = queue.as_ref().expect("limits come first").enqueue(shard as u32);
                let asking = async move {
                    if permit.await.is_ok() {
                        println!("{number}");
                    }
                };
                waiting.insert(number, tokio::spawn(asking));
            }
            ("drop", &[number, ..]) => {
                if let Some(asking) = waiting.remove(&number) {
                    asking.abort();
                }
            }
            _ => eprintln!("not understood: {line}"),
        }
    }
}
