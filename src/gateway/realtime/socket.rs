//! One websocket: what comes in, in order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Service,
    broadcast::Broadcast,
    changes::LastRef,
    channel::Channel,
    delivery::Receipts,
    error::ChannelError,
    join::{Caller, is_legacy},
    limit::Limit,
    listener::{Failures, Listener},
    outbox::Outbox,
    protocol::{Frame, Payload, Version},
    token::Token,
    writer::{self, FAREWELL, Farewell},
};
use crate::gateway::keys::now;

/// Tokens are looked at again after this time at the latest, as the clock may be set.
const TOKEN_CHECK: Duration = Duration::from_secs(300);

/// How long receipts of what was written last are waited for when the gateway stops.
const LAST_RECEIPTS: Duration = Duration::from_millis(500);

/// What a socket was opened with.
#[derive(Debug)]
pub struct Handshake {
    /// What it speaks.
    pub version: Version,
    /// Of the handshake's key; channels that bring none act for it.
    pub token: Token,
    /// What it calls itself.
    pub agent: String,
}

struct Socket {
    service: Arc<Service>,
    version: Version,
    caller: Caller,
    /// Of the handshake's key; channels that bring none act for it.
    token: Token,
    outbox: Outbox,
    failures: Failures,
    /// By topic; boxed, as a map has room for more than there are.
    channels: HashMap<String, Box<Channel>>,
    joins: Limit,
    messages: Limit,
    presences: Limit,
}

/// Whether the socket goes on.
enum Next {
    Continue,
    Close(Farewell),
}

/// Serves a socket until it ends.
pub async fn run(socket: WebSocket, service: Arc<Service>, handshake: Handshake, stop: CancellationToken) {
    let Handshake { version, token, agent } = handshake;
    let (sink, mut stream) = socket.split();
    let (outbox, waiting) = Outbox::new();
    let failures = Failures::default();
    let ((finish, finished), receipts) = (oneshot::channel(), Arc::new(Receipts::default()));
    let writer = tokio::spawn(writer::write(
        sink,
        waiting,
        finished,
        outbox.clone(),
        Arc::clone(&receipts),
    ));
    let idle = service.settings.idle_timeout;
    let mut socket = Socket {
        joins: Limit::new(service.settings.joins_per_second),
        messages: Limit::new(service.settings.messages_per_second),
        presences: Limit::new(service.settings.presence_per_second),
        service,
        version,
        caller: Caller {
            agent,
            last_ref: LastRef::default(),
        },
        token,
        outbox: outbox.clone(),
        failures: failures.clone(),
        channels: HashMap::new(),
    };
    let mut heard = Instant::now();
    let farewell = loop {
        let check = socket.next_token_check();
        tokio::select! {
            message = stream.next() => {
                heard = Instant::now();
                let next = match message {
                    Some(Ok(Message::Text(text))) => socket.frame(version.read_text(&text).ok()).await,
                    Some(Ok(Message::Binary(data))) => socket.frame(version.read_binary(&data).ok()).await,
                    Some(Ok(Message::Pong(payload))) => socket.receive(&receipts, &payload),
                    Some(Ok(Message::Ping(_))) => Next::Continue,
                    Some(Ok(Message::Close(_))) | None => Next::Close(writer::GONE),
                    Some(Err(_)) => Next::Close(writer::BROKEN),
                };
                if let Next::Close(farewell) = next {
                    break farewell;
                }
            }
            id = failures.next() => socket.fail(id),
            () = sleep_until(check) => socket.check_tokens(),
            () = sleep_until(heard + idle) => break writer::SILENT,
            () = outbox.overflowed() => {
                tracing::info!("a socket too slow for what is sent to it is closed");
                break writer::TOO_SLOW;
            }
            () = stop.cancelled() => {
                let last = async {
                    while !receipts.is_complete() {
                        match stream.next().await {
                            Some(Ok(Message::Pong(payload))) => drop(socket.receive(&receipts, &payload)),
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return,
                        }
                    }
                };
                // What has no receipt is sent again to who comes back.
                let _ = timeout(LAST_RECEIPTS, last).await;
                break writer::RESTART;
            }
        }
    };
    // Subscriptions and presence end now, not when the last frame is written.
    socket.channels.drain().for_each(|(_, channel)| channel.lose());
    drop(socket);
    // A writer that has given up needs no word.
    let _ = finish.send(farewell);
    // What the client still says is read until it has closed too: unread, it would cost the client our last frames.
    let said = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = timeout(2 * FAREWELL, async { tokio::join!(writer, said) }).await;
}

impl Socket {
    /// A pong: notes what has arrived, and asks for the receipt of what was written since.
    fn receive(&self, receipts: &Receipts, payload: &[u8]) -> Next {
        let arrived = receipts.receive(payload);
        for channel in self.channels.values() {
            if arrived
                .iter()
                .any(|mark| Arc::ptr_eq(&mark.delivery, &channel.listener.delivery))
            {
                channel.received();
            }
        }
        if let Some(ping) = receipts.ask() {
            self.outbox.send(ping, None);
        }
        Next::Continue
    }

    async fn frame(&mut self, frame: Option<Frame>) -> Next {
        // What cannot be read is dropped, as Supabase does.
        let Some(frame) = frame else { return Next::Continue };
        self.caller.last_ref.saw(frame.reference.as_deref());
        match (frame.topic.as_str(), frame.event.as_str()) {
            ("phoenix", "heartbeat") => self.reply(None, &frame, Ok(json!({}))),
            // Boxed: else every socket would hold what only a join needs, and that is most of it.
            (topic, "phx_join") if topic.starts_with("realtime:") => return Box::pin(self.join(frame)).await,
            (topic, event) => match self.channels.get(topic) {
                // A message of an earlier join of this topic.
                Some(channel) if frame.join_ref.is_some() && frame.join_ref != channel.listener.join_ref => {}
                Some(_) => Box::pin(self.message(frame)).await,
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
            return Next::Close(writer::TOO_MANY_JOINS);
        }
        // A topic joined twice: the first channel ends.
        if let Some(old) = self.channels.remove(&frame.topic) {
            self.close(old);
        }
        let outcome = if self.channels.len() >= self.service.settings.max_channels {
            Err(ChannelError::TooManyChannels)
        } else {
            let payload = frame.payload.json();
            let listener = Listener::new(
                frame.topic.clone(),
                join_ref.clone(),
                self.version,
                is_legacy(&payload),
                self.outbox.clone(),
                self.failures.clone(),
            );
            Channel::join(&self.service, listener, &payload, &self.token, &self.caller).await
        };
        match outcome {
            Ok((mut channel, failures)) => {
                self.reply(join_ref.as_deref(), &frame, Ok(channel.reply()));
                channel.greet(&failures);
                channel.listener.release().await;
                self.channels.insert(frame.topic, Box::new(channel));
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

    async fn handle(&mut self, channel: &mut Channel, frame: &Frame) -> Result<(), ChannelError> {
        if !self.messages.take() {
            return Err(ChannelError::TooManyMessages);
        }
        let join_ref = channel.listener.join_ref.clone();
        match frame.event.as_str() {
            "broadcast" => {
                let sent = match &frame.payload {
                    Payload::Json(json) => Broadcast::Object(json.get().to_owned()),
                    Payload::Broadcast { event, body } => Broadcast::User {
                        event: event.clone(),
                        body: body.clone(),
                    },
                };
                if let Some(response) = channel.broadcast(&self.service, sent).await? {
                    self.reply(join_ref.as_deref(), frame, response);
                }
            }
            "presence" => {
                if !self.presences.take() {
                    return Err(ChannelError::TooManyPresences);
                }
                let response = channel.presence(&self.service, &frame.payload.json()).await?;
                self.reply(join_ref.as_deref(), frame, response);
            }
            "access_token" => {
                // It costs what a join does.
                if !self.joins.take() {
                    return Err(ChannelError::TooManyJoins);
                }
                if let Some(text) = frame.payload.json().get("access_token").and_then(Value::as_str) {
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
            None,
        );
    }

    /// Ends a channel for good: the client does not join again by itself.
    fn close(&self, channel: Box<Channel>) {
        let listener = Arc::clone(&channel.listener);
        // Nothing is delivered behind its end.
        drop(channel);
        self.tell_end(&listener, "phx_close");
    }

    /// Ends a channel in a way that makes the client join again.
    fn fail(&mut self, id: u64) {
        let topic = self.channels.iter().find(|(_, channel)| channel.listener.id == id);
        let Some(topic) = topic.map(|(topic, _)| topic.clone()) else {
            return;
        };
        if let Some(channel) = self.channels.remove(&topic) {
            let listener = Arc::clone(&channel.listener);
            channel.lose();
            self.tell_end(&listener, "phx_error");
        }
    }

    fn tell_end(&self, listener: &Listener, event: &str) {
        let join_ref = listener.join_ref.as_deref();
        self.outbox.send(
            self.version.text(join_ref, join_ref, &listener.topic, event, "{}"),
            None,
        );
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
