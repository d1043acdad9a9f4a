//! A thousand come and say who they are: how long until everybody sees everybody, and until all see that half left.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    sync::{Barrier, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use super::Bench;
use crate::{
    socket::Socket,
    table::{heading, line},
};

const PEOPLE: usize = 1_000;
const TOPIC: &str = "realtime:bench-presence";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    heading(&format!("presence of {PEOPLE}"));
    let (steps, taken) = (Arc::new(Barrier::new(PEOPLE + 1)), bench.taken().await?);
    let (leave, leaving) = watch::channel(false);
    let mut people = JoinSet::new();
    for at in 0..PEOPLE {
        let (address, steps, mut leaving) = (bench.address.clone(), Arc::clone(&steps), leaving.clone());
        people.spawn(async move {
            let mut socket = Socket::open(&address, 0).await?;
            steps.wait().await;
            let key = format!("person-{at}");
            let config = json!({ "presence": { "key": key, "enabled": true }, "private": false });
            // What comes from here on is all of it: the state is sent behind the answer.
            socket.join(TOPIC, &config, &address.key).await?;
            let track = json!({ "type": "presence", "event": "track", "payload": { "name": key, "online": true } });
            socket.push(TOPIC, "presence", &track, false).await?;
            let mut seen = HashSet::new();
            timeout(PATIENCE, see(&mut socket, &mut seen, PEOPLE))
                .await
                .context("not everybody is seen")??;
            steps.wait().await;
            let _ = leaving.wait_for(|leave| *leave).await;
            if at % 2 == 0 {
                drop(socket);
            } else {
                timeout(PATIENCE, see(&mut socket, &mut seen, PEOPLE / 2))
                    .await
                    .context("the gone are still seen")??;
            }
            steps.wait().await;
            anyhow::Ok(())
        });
    }
    steps.wait().await;
    let begin = Instant::now();
    let failed = async {
        while let Some(ended) = people.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let walk = async {
        steps.wait().await;
        let all = begin.elapsed();
        let spent = taken.spent(&bench.database).await?.each(PEOPLE);
        line(
            "until all see all, who come at once",
            &format!("{:.2} s", all.as_secs_f64()),
            &format!("{spent} each"),
        );
        let (begin, taken) = (Instant::now(), bench.taken().await?);
        leave.send_replace(true);
        steps.wait().await;
        let spent = taken.spent(&bench.database).await?.each(PEOPLE / 2);
        let took = format!("{:.2} s", begin.elapsed().as_secs_f64());
        line("until the rest see that half are gone", &took, &format!("{spent} each"));
        anyhow::Ok(())
    };
    tokio::try_join!(walk, failed).map(drop)
}

/// Reads until so many are present.
async fn see(socket: &mut Socket, seen: &mut HashSet<String>, wanted: usize) -> Result<()> {
    while seen.len() != wanted {
        let Message::Text(text) = socket.next().await? else {
            continue;
        };
        let frame: Value = serde_json::from_str(&text)?;
        let (event, payload) = (frame[3].as_str(), &frame[4]);
        let names = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .into_iter()
                .flat_map(|all| all.keys().cloned())
                .collect()
        };
        match event {
            Some("presence_state") => seen.extend(names(payload)),
            Some("presence_diff") => {
                seen.extend(names(&payload["joins"]));
                for name in names(&payload["leaves"]) {
                    ensure!(seen.remove(&name), "{name} left without having been there");
                }
            }
            _ => {}
        }
    }
    Ok(())
}
