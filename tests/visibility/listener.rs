//! A subscriber on a socket of his own, and what the gateway remembers meanwhile.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{sync::MutexGuard, task::JoinHandle};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::support::{SOON, app::App, until};

/// Someone who listens to a table.
pub struct Listener {
    heard: Arc<Mutex<Vec<Value>>>,
    reading: JoinHandle<()>,
}

impl Listener {
    /// Subscribes to a table of `public` with these claims; live when this returns.
    pub async fn new(app: &App, table: &str, mut claims: Value) -> Self {
        claims["exp"] = json!(4_000_000_000_u64);
        let token = app.keys.sign(&claims).unwrap();
        let url = format!(
            "{}/realtime/v1/websocket?apikey={}&vsn=1.0.0",
            app.url.replace("http://", "ws://"),
            app.keys.anon.expose()
        );
        let (mut socket, _) = connect_async(url).await.unwrap();
        let wanted = json!([{ "event": "*", "schema": "public", "table": table }]);
        let join = json!({
            "topic": "realtime:changes", "event": "phx_join", "ref": "1", "join_ref": "1",
            "payload": { "config": { "postgres_changes": wanted }, "access_token": token },
        });
        socket.send(Message::text(join.to_string())).await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (live, is_live) = tokio::sync::oneshot::channel();
        let (mut live, all) = (Some(live), Arc::clone(&heard));
        let reading = tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let Ok(frame) = message.to_text().map(serde_json::from_str::<Value>) else {
                    continue;
                };
                let Ok(mut frame) = frame else { continue };
                match frame["event"].as_str() {
                    Some("phx_reply") => {
                        assert_eq!(frame["payload"]["status"], "ok", "{frame}");
                        live.take().map(|live| live.send(()));
                    }
                    Some("postgres_changes") => all.lock().unwrap().push(frame["payload"]["data"]["record"].take()),
                    _ => {}
                }
            }
        });
        tokio::time::timeout(SOON, is_live).await.unwrap().unwrap();
        Self { heard, reading }
    }

    /// The rows that came, so far.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether a row came with this `id`, so far.
    pub fn has(&self, id: i64) -> bool {
        self.heard.lock().unwrap().iter().any(|row| row["id"] == id)
    }

    /// Waits for the row with this `id`; all before it have come then.
    pub async fn hears(&self, id: i64) {
        until(&format!("row {id} is heard"), async || self.has(id)).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Counted for the whole process: one test at a time.
pub async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// How often the gateway knew from memory, and how often it asked.
pub async fn checks(app: &App) -> (u64, u64) {
    let request = Client::new()
        .get(format!("{}/metrics", app.url))
        .bearer_auth(app.keys.service_role.expose());
    let text = request.send().await.unwrap().text().await.unwrap();
    let value = |from: &str| {
        let name = format!("switchboard_realtime_visibility_checks_total{{from=\"{from}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&name)?.parse().ok())
            .unwrap_or_default()
    };
    (value("memory"), value("postgres"))
}
