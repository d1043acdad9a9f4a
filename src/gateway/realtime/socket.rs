//! One websocket: what comes in, in order; what goes out, from a bounded queue.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Service,
    channel::{Channel, Sent},
    error::ChannelError,
    limit::Limit,
    listener::Listener,
    outbox::{Outbox, Waiting},
    protocol::{Frame, Payload, Version},
    token::Token,
};
use crate::gateway::keys::now;

/// A socket that says nothing for so long is closed; clients send a heartbeat every 25 seconds.
const IDLE: Duration = Duration::from_secs(60);
/// How long one frame may take to be written.
const WRITE: Duration = Duration::from_secs(30);
/// How long the last frames may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);
/// Tokens are looked at again after this time at the latest, as the clock may be set.
const TOKEN_CHECK: Duration = Duration::from_secs(300);

struct Socket {
    service: Arc<Service>,
    version: Version,
    /// Of the handshake's key; channels that bring none act for it.
    token: Token,
    outbox: Outbox,
    failed: mpsc::UnboundedSender<u64>,
    /// By topic.
    channels: HashMap<String, Channel>,
    joins: Limit,
    messages: Limit,
}

/// Whether the socket goes on.
enum Next {
    Continue,
    Close,
}

/// Serves a socket until it ends.
pub async fn run(socket: WebSocket, service: Arc<Service>, version: Version, token: Token, stop: CancellationToken) {
    let (sink, mut stream) = socket.split();
    let (outbox, waiting) = Outbox::new();
    let (failed, mut failures) = mpsc::unbounded_channel();
    let finish = CancellationToken::new();
    let writer = tokio::spawn(write(sink, waiting, finish.clone(), outbox.clone()));
    let mut socket = Socket {
        joins: Limit::new(service.settings.joins_per_second),
        messages: Limit::new(service.settings.messages_per_second),
        service,
        version,
        token,
        outbox: outbox.clone(),
        failed,
        channels: HashMap::new(),
    };
    let mut heard = Instant::now();
    loop {
        let check = socket.next_token_check();
        tokio::select! {
            message = stream.next() => {
                heard = Instant::now();
                let next = match message {
                    Some(Ok(Message::Text(text))) => socket.frame(version.read_text(&text).ok()).await,
                    Some(Ok(Message::Binary(data))) => socket.frame(version.read_binary(&data).ok()).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Next::Continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Next::Close,
                };
                if matches!(next, Next::Close) {
                    break;
                }
            }
            Some(id) = failures.recv() => socket.fail(id),
            () = sleep_until(check) => socket.check_tokens(),
            () = sleep_until(heard + IDLE) => break,
            () = outbox.overflowed() => {
                tracing::info!("a socket too slow for what is sent to it is closed");
                break;
            }
            () = stop.cancelled() => break,
        }
    }
    // Subscriptions and presence end now, not when the last frame is written.
    drop(socket);
    finish.cancel();
    let _ = writer.await;
}

/// Writes what waits until it is told to finish or the other side stops reading.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut waiting: Waiting,
    finish: CancellationToken,
    outbox: Outbox,
) {
    let pumped = tokio::select! {
        pumped = pump(&mut sink, &mut waiting) => pumped,
        () = finish.cancelled() => Ok(()),
    };
    if pumped.is_err() {
        outbox.give_up();
        return;
    }
    // A last word, if the other side still reads; any code but 1000 makes clients connect again.
    let last = async {
        while let Some(frame) = waiting.try_next() {
            sink.feed(frame).await?;
        }
        let (code, reason) = if outbox.is_given_up() {
            (close_code::AGAIN, "too far behind in reading what is sent".into())
        } else {
            (close_code::RESTART, "".into())
        };
        sink.send(Message::Close(Some(CloseFrame { code, reason }))).await
    };
    // Whoever does not listen to it finds the connection closed.
    let _ = timeout(FAREWELL, last).await;
}

/// What is there at once goes out in one flush.
async fn pump(sink: &mut SplitSink<WebSocket, Message>, waiting: &mut Waiting) -> Result<(), axum::Error> {
    while let Some(first) = waiting.next().await {
        let written = async {
            let mut frame = Some(first);
            while let Some(next) = frame {
                sink.feed(next).await?;
                frame = waiting.try_next();
            }
            sink.flush().await
        };
        timeout(WRITE, written).await.map_err(axum::Error::new)??;
    }
    Ok(())
}

impl Socket {
    async fn frame(&mut self, frame: Option<Frame>) -> Next {
        // What cannot be read is dropped, as Supabase does.
        let Some(frame) = frame else { return Next::Continue };
        match (frame.topic.as_str(), frame.event.as_str()) {
            ("phoenix", "heartbeat") => self.reply(None, &frame, Ok(json!({}))),
            (topic, "phx_join") if topic.starts_with("realtime:") => return self.join(frame).await,
            (topic, event) => match self.channels.get(topic) {
                // A message of an earlier join of this topic.
                Some(channel) if frame.join_ref.is_some() && frame.join_ref != channel.listener.join_ref => {}
                Some(_) => self.message(frame).await,
                None if event == "phx_leave" => self.reply(frame.join_ref.as_deref(), &frame, Ok(json!({}))),
                None => self.reply(None, &frame, Err(json!({ "reason": "unmatched topic" }))),
            },
        }
        Next::Continue
    }

    async fn join(&mut self, frame: Frame) -> Next {
        let join_ref = frame.join_ref.clone().or_else(|| frame.reference.clone());
        if !self.joins.take() {
            let reason = ChannelError::TooManyJoins.reason();
            self.reply(join_ref.as_deref(), &frame, Err(json!({ "reason": reason })));
            return Next::Close;
        }
        // A topic joined twice: the first channel ends.
        if let Some(old) = self.channels.remove(&frame.topic) {
            self.close(old);
        }
        let outcome = if self.channels.len() >= self.service.settings.max_channels {
            Err(ChannelError::TooManyChannels)
        } else {
            let payload = match &frame.payload {
                Payload::Json(json) => serde_json::from_str(json.get()).unwrap_or_default(),
                Payload::Broadcast { .. } => Value::Null,
            };
            let (outbox, failed) = (self.outbox.clone(), self.failed.clone());
            let listener = Listener::new(frame.topic.clone(), join_ref.clone(), self.version, outbox, failed);
            Channel::join(&self.service, listener, &payload, &self.token).await
        };
        match outcome {
            Ok((channel, failures)) => {
                self.reply(join_ref.as_deref(), &frame, Ok(channel.reply()));
                channel.greet(&failures);
                self.channels.insert(frame.topic, channel);
            }
            Err(error) => {
                tracing::debug!(%error, "a join is refused");
                self.reply(join_ref.as_deref(), &frame, Err(json!({ "reason": error.reason() })));
            }
        }
        Next::Continue
    }

    /// A message for a joined channel.
    async fn message(&mut self, frame: Frame) {
        let Some(mut channel) = self.channels.remove(&frame.topic) else {
            return;
        };
        if frame.event == "phx_leave" {
            self.reply(channel.listener.join_ref.as_deref(), &frame, Ok(json!({})));
            self.close(channel);
            return;
        }
        if !self.messages.take() {
            channel
                .listener
                .system("system", "error", "Too many messages per second");
            self.close(channel);
            return;
        }
        match self.handle(&mut channel, &frame).await {
            Ok(()) => {
                self.channels.insert(frame.topic, channel);
            }
            Err(error) => {
                channel.listener.system("system", "error", &error.to_string());
                self.close(channel);
            }
        }
    }

    async fn handle(&self, channel: &mut Channel, frame: &Frame) -> Result<(), ChannelError> {
        let join_ref = channel.listener.join_ref.clone();
        let payload = || match &frame.payload {
            Payload::Json(json) => serde_json::from_str(json.get()).unwrap_or_default(),
            Payload::Broadcast { .. } => Value::Null,
        };
        match frame.event.as_str() {
            "broadcast" => {
                let sent = match &frame.payload {
                    Payload::Json(json) => Sent::Object(json.get().to_owned()),
                    Payload::Broadcast { event, body } => Sent::User {
                        event: event.clone(),
                        body: body.clone(),
                    },
                };
                if sent.len() > self.service.settings.max_payload_bytes {
                    let response = json!({ "error": "payload_size_exceeded" });
                    self.reply(join_ref.as_deref(), frame, Err(response));
                } else if channel.broadcast(&self.service, sent).await? {
                    self.reply(join_ref.as_deref(), frame, Ok(json!({})));
                }
            }
            "presence" => {
                let response = channel.presence(&self.service, &payload()).await?;
                self.reply(join_ref.as_deref(), frame, response);
            }
            "access_token" => {
                if let Some(text) = payload().get("access_token").and_then(Value::as_str) {
                    channel.refresh(&self.service, text).await?;
                }
            }
            // Clients' pushes of other events time out there, as with Supabase.
            _ => {}
        }
        Ok(())
    }

    fn reply(&self, join_ref: Option<&str>, frame: &Frame, outcome: Result<Value, Value>) {
        let (status, response) = match outcome {
            Ok(response) => ("ok", response),
            Err(response) => ("error", response),
        };
        let payload = json!({ "status": status, "response": response }).to_string();
        let reference = frame.reference.as_deref();
        self.outbox.send(
            self.version
                .text(join_ref, reference, &frame.topic, "phx_reply", &payload),
        );
    }

    /// Ends a channel for good: the client does not join again by itself.
    fn close(&self, channel: Channel) {
        self.end(channel, "phx_close");
    }

    /// Ends a channel in a way that makes the client join again.
    fn fail(&mut self, id: u64) {
        let topic = self.channels.iter().find(|(_, channel)| channel.listener.id == id);
        let Some(topic) = topic.map(|(topic, _)| topic.clone()) else {
            return;
        };
        if let Some(channel) = self.channels.remove(&topic) {
            self.end(channel, "phx_error");
        }
    }

    fn end(&self, channel: Channel, event: &str) {
        let listener = Arc::clone(&channel.listener);
        // Nothing is delivered behind its end.
        drop(channel);
        let join_ref = listener.join_ref.as_deref();
        self.outbox
            .send(self.version.text(join_ref, join_ref, &listener.topic, event, "{}"));
    }

    /// When the first token ends, or in five minutes.
    fn next_token_check(&self) -> Instant {
        let first = self.channels.values().map(|channel| channel.token.expiry).min();
        let left = first.map_or(TOKEN_CHECK, |expiry| {
            Duration::from_secs(u64::try_from(expiry - now()).unwrap_or(0))
        });
        // Never at once: the clock counts whole seconds.
        Instant::now() + left.clamp(Duration::from_millis(100), TOKEN_CHECK)
    }

    fn check_tokens(&mut self) {
        let over = self.channels.iter().filter_map(|(topic, channel)| {
            let error = channel.token.check_time().err()?;
            Some((topic.clone(), error))
        });
        for (topic, error) in over.collect::<Vec<_>>() {
            if let Some(channel) = self.channels.remove(&topic) {
                channel.listener.system("system", "error", &error.to_string());
                self.close(channel);
            }
        }
    }
}
