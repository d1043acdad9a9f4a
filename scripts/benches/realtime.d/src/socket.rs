//! One client: a websocket that speaks version 2.0.0 of the protocol, as realtime-js does.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Bytes, Message, protocol::WebSocketConfig},
};

/// How long a join may take, as in realtime-js.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client needs to connect.
#[derive(Clone)]
pub struct Address {
    /// On 127.0.0.1.
    pub port: u16,
    /// The API key.
    pub key: String,
}

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The last `ref`; a client that connects again goes on counting.
    pub reference: u64,
    joined: bool,
}

impl Socket {
    /// Connects. `reference` is the last number the client used before.
    pub async fn open(address: &Address, reference: u64) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", address.port)).await?;
        stream.set_nodelay(true)?;
        let url = format!(
            "ws://127.0.0.1:{}/realtime/v1/websocket?apikey={}&vsn=2.0.0",
            address.port, address.key
        );
        // Thousands of clients in one process.
        let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
        let (stream, _) = client_async_with_config(url, stream, Some(config)).await?;
        Ok(Self {
            stream,
            reference,
            joined: false,
        })
    }

    /// Joins a topic and waits for the answer. What comes before it is dropped.
    pub async fn join(&mut self, topic: &str, config: &Value, token: &str) -> Result<()> {
        timeout(PATIENCE, self.try_join(topic, config, token))
            .await
            .context("a join without an answer")?
    }

    async fn try_join(&mut self, topic: &str, config: &Value, token: &str) -> Result<()> {
        let payload = json!({ "config": config, "access_token": token });
        let reference = self.push(topic, "phx_join", &payload, true).await?;
        let answer = format!("[\"{reference}\",\"{reference}\",");
        loop {
            let frame = self.next().await?;
            let Message::Text(text) = frame else { continue };
            if text.starts_with(&answer) {
                ensure!(text.contains("\"status\":\"ok\""), "a join is refused: {text}");
                self.joined = true;
                return Ok(());
            }
        }
    }

    /// Whether a join was answered.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Sends a message; gives its number.
    pub async fn push(&mut self, topic: &str, event: &str, payload: &Value, joins: bool) -> Result<u64> {
        self.reference += 1;
        let number = self.reference;
        let mut text = String::from("[");
        match joins {
            true => write!(text, "\"{number}\"")?,
            false => text.push_str("null"),
        }
        write!(
            text,
            ",\"{number}\",{},{},{payload}]",
            Value::from(topic),
            Value::from(event)
        )?;
        self.stream.send(Message::text(text)).await?;
        Ok(number)
    }

    /// Sends a broadcast, in a frame of its own kind as realtime-js does. Each name is short.
    pub async fn broadcast(&mut self, topic: &str, event: &str, payload: &str) -> Result<()> {
        let size = |text: &str| text.len().to_le_bytes()[0];
        let mut frame = vec![3, 0, 0, size(topic), size(event), 0, 1];
        for part in [topic, event, payload] {
            frame.extend_from_slice(part.as_bytes());
        }
        Ok(self.stream.send(Message::Binary(Bytes::from(frame))).await?)
    }

    /// The next frame that is not of the websocket itself. Pings are answered on the way.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            match self.stream.next().await.context("the connection ended")?? {
                Message::Close(frame) => bail!("the server closed: {frame:?}"),
                frame @ (Message::Text(_) | Message::Binary(_)) => return Ok(frame),
                _ => {}
            }
        }
    }

    /// Sends a heartbeat, and waits for its answer.
    pub async fn heartbeat(&mut self) -> Result<()> {
        self.push("phoenix", "heartbeat", &json!({}), false).await?;
        self.next().await.map(drop)
    }
}

/// What a join for changes of a table says, with a filter or without.
pub fn changes(table: &str, filter: Option<&str>) -> Value {
    let mut binding = json!({ "event": "INSERT", "schema": "public", "table": table });
    if let Some(filter) = filter {
        binding["filter"] = filter.into();
    }
    json!({
        "broadcast": { "ack": false, "self": false }, "presence": { "key": "", "enabled": false },
        "postgres_changes": [binding], "private": false,
    })
}
