//! A joined channel: what it was joined with, whom it acts for, and what it holds elsewhere.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    Service,
    authorize::Extension,
    broadcast::Broadcast,
    changes::{PATIENCE, Subscribed},
    error::ChannelError,
    hub::{Membership, Rights, Topic},
    join::{Caller, Config},
    limit::Window,
    listener::Listener,
    replay::{self, Replay},
    token::Token,
};

/// Bindings of one channel at most: each is checked in the database.
const MAX_BINDINGS: usize = 100;

/// A joined channel. Dropping it ends everything it holds.
#[derive(Debug)]
pub struct Channel {
    /// Its receiving end.
    pub listener: Arc<Listener>,
    /// Whom it acts for.
    pub token: Token,
    config: Config,
    rights: Rights,
    /// What policies said about writing; asked when first needed.
    may_broadcast: Option<bool>,
    may_be_present: Option<bool>,
    membership: Membership,
    subscribed: Option<Subscribed>,
    caller: Caller,
    presence_calls: Window,
    /// Messages to send behind the reply to the join.
    before: Vec<replay::Message>,
}

impl Channel {
    /// Joins. `payload` is the join's, `default` the token of the socket. Gives the channel and what did not work of
    /// its subscriptions.
    ///
    /// # Errors
    /// What the reply is to say.
    pub async fn join(
        service: &Service,
        listener: Arc<Listener>,
        payload: &Value,
        default: &Token,
        caller: &Caller,
    ) -> Result<(Self, Vec<String>), ChannelError> {
        if listener.subtopic().is_empty() {
            return Err(ChannelError::NoTopic);
        }
        let config = Config::read(payload, listener.subtopic());
        if config.bindings.len() > MAX_BINDINGS {
            return Err(ChannelError::TooManyChanges(MAX_BINDINGS));
        }
        let token = Token::of_join(&service.keys, payload, default)?;
        listener.belongs_to(token.writer(&service.answers));
        let topic = Topic {
            name: listener.subtopic().to_owned(),
            private: config.private,
        };
        let rights = rights(service, &token, &topic).await?;
        let replay = Replay::read(&config.replay, config.private)?;
        if rights == Rights::default() || replay.is_some() && !rights.broadcast {
            return Err(ChannelError::Forbidden(topic.name));
        }
        // On its topic first: what comes while the messages of before are fetched is not between the two.
        let membership = service.hub.join(topic.clone(), &listener, rights);
        let before = match replay {
            Some(replay) => replay.messages(service.changes.pool(), &topic.name).await?,
            None => Vec::new(),
        };
        if config.replication_ready {
            service.changes.flowing(PATIENCE).await?;
        }
        let (subscribed, failures) = subscribe(service, &config, &token, &listener, caller).await?;
        let channel = Self {
            membership,
            before,
            listener,
            token,
            config,
            rights,
            may_broadcast: None,
            may_be_present: None,
            subscribed,
            caller: caller.clone(),
            presence_calls: Window::default(),
        };
        Ok((channel, failures))
    }

    /// What the reply to the join says: the bindings as they came, each with its id.
    pub fn reply(&self) -> Value {
        let bindings = self.config.bindings.iter().map(|binding| {
            let mut shown = binding.params.clone();
            shown.insert("id".into(), binding.id.into());
            Value::from(shown)
        });
        json!({ "postgres_changes": bindings.collect::<Vec<_>>() })
    }

    /// What follows the reply.
    pub fn greet(&mut self, failures: &[String]) {
        replay::send(&self.listener, &std::mem::take(&mut self.before));
        self.tell_subscribed(failures);
        if self.config.replication_ready {
            self.listener
                .system("system", "ok", "Replication connection established");
        }
        if self.config.presence_enabled && self.rights.presence {
            self.membership.send_presence_state();
        }
    }

    fn tell_subscribed(&self, failures: &[String]) {
        for failure in failures {
            self.listener.system("postgres_changes", "error", failure);
        }
        if failures.is_empty() && !self.config.bindings.is_empty() {
            self.listener
                .system("postgres_changes", "ok", "Subscribed to PostgreSQL");
        }
    }

    /// Ends the channel of a client that is gone without a word; it goes on where it was when it joins again.
    pub fn lose(self) {
        if let Some(subscribed) = self.subscribed {
            subscribed.lose();
        }
    }

    /// Its client has received more.
    pub fn received(&self) {
        if let Some(subscribed) = &self.subscribed {
            subscribed.received();
        }
    }

    /// Takes a new token. The old subscriptions stay until the new ones are there.
    ///
    /// # Errors
    /// When the channel cannot go on with it.
    pub async fn refresh(&mut self, service: &Service, text: &str) -> Result<(), ChannelError> {
        if text.starts_with("sb_") || self.token.is(text) {
            return Ok(());
        }
        let token = Token::verify(&service.keys, text)?;
        let topic = self.membership.topic();
        let rights = rights(service, &token, topic).await?;
        let lost = self.rights.broadcast && !rights.broadcast || self.rights.presence && !rights.presence;
        if lost {
            return Err(ChannelError::NoLongerAllowed(topic.name.clone()));
        }
        self.membership.set_rights(rights);
        (self.rights, self.may_broadcast, self.may_be_present) = (rights, None, None);
        self.token = token;
        self.listener.belongs_to(self.token.writer(&service.answers));
        if !self.config.bindings.is_empty() {
            let (listener, bindings) = (&self.listener, &self.config.bindings);
            let (identity, old) = (&self.token.identity, self.subscribed.take());
            // It is here, so there is nothing it missed.
            let client = self.config.client(&self.token, listener, &self.caller, 0);
            let changes = service.changes.subscribe(listener, identity, bindings, client, old);
            let (subscribed, failures) = changes.await?;
            self.subscribed = Some(subscribed);
            self.tell_subscribed(&failures);
        }
        Ok(())
    }

    /// Passes a broadcast on, unless it is too large. Gives the response, ok or error, if the sender wants one.
    ///
    /// # Errors
    /// When the database cannot be asked for the policies.
    pub async fn broadcast(
        &mut self,
        service: &Service,
        sent: Broadcast,
    ) -> Result<Option<Result<Value, Value>>, ChannelError> {
        if sent.len() > service.settings.max_payload_bytes {
            let response = json!({ "error": "payload_size_exceeded" });
            return Ok(self.config.ack.then_some(Err(response)));
        }
        if !self.may(service, Extension::Broadcast).await? {
            let reason = ChannelError::WriteForbidden(self.membership.topic().name.clone()).reason();
            return Ok(self.config.ack.then(|| Err(json!({ "reason": reason }))));
        }
        let except = self.membership.except(self.config.to_itself);
        let passed_on = service.cluster.broadcast(self.membership.topic(), except, sent);
        Ok(self.config.ack.then(|| match passed_on {
            Ok(()) => Ok(json!({})),
            Err(error) => Err(json!({ "reason": error.reason() })),
        }))
    }

    /// Does what a presence message asks for. Gives the response, ok or error.
    ///
    /// # Errors
    /// When the channel cannot go on: it says too much, or the database cannot be asked for the policies.
    pub async fn presence(&mut self, service: &Service, payload: &Value) -> Result<Result<Value, Value>, ChannelError> {
        // What is no statement of presence is none, and no error.
        let Some(event) = payload.get("event").and_then(Value::as_str) else {
            return Ok(Ok(json!({})));
        };
        if !self.presence_calls.take(service.settings.presence_calls) {
            return Err(ChannelError::TooManyPresenceCalls);
        }
        match event.to_ascii_lowercase().as_str() {
            "track" => self.track(service, payload.get("payload")).await,
            "untrack" => {
                self.membership.untrack();
                Ok(Ok(json!({})))
            }
            _ => Ok(Err(json!({}))),
        }
    }

    async fn track(&mut self, service: &Service, said: Option<&Value>) -> Result<Result<Value, Value>, ChannelError> {
        if !self.may(service, Extension::Presence).await? {
            return Ok(Err(json!({})));
        }
        let meta = match said {
            None => Map::new(),
            Some(Value::Object(meta)) => meta.clone(),
            Some(_) => return Ok(Err(json!({ "reason": "Presence track payload must be a map" }))),
        };
        if said.is_some_and(|said| said.to_string().len() > service.settings.max_payload_bytes) {
            return Err(ChannelError::TrackTooLarge);
        }
        self.membership.track(&self.config.presence_key, meta);
        // Who tracks wants to know the others, also if it did not say so when it joined.
        if !self.config.presence_enabled && self.rights.presence {
            self.config.presence_enabled = true;
            self.membership.send_presence_state();
        }
        Ok(Ok(json!({})))
    }

    /// Whether the channel may write; policies are asked once a token.
    async fn may(&mut self, service: &Service, extension: Extension) -> Result<bool, ChannelError> {
        let topic = self.membership.topic();
        if !topic.private {
            return Ok(true);
        }
        let known = match extension {
            Extension::Broadcast => &mut self.may_broadcast,
            Extension::Presence => &mut self.may_be_present,
        };
        if known.is_none() {
            let asked = service
                .authorizer
                .may_write(&self.token.identity, &topic.name, extension);
            *known = Some(asked.await?);
        }
        Ok(*known == Some(true))
    }
}

/// The changes that a join asks for, and those of them that cannot be had; a client may want all of them or not to join.
async fn subscribe(
    service: &Service,
    config: &Config,
    token: &Token,
    listener: &Arc<Listener>,
    caller: &Caller,
) -> Result<(Option<Subscribed>, Vec<String>), ChannelError> {
    if config.bindings.is_empty() {
        return Ok((None, Vec::new()));
    }
    let changes = &service.changes;
    if let Some(wait) = config.wait {
        let flowing = changes.flowing(wait).await;
        flowing.map_err(|_| ChannelError::SubscribeTimeout(wait.as_millis()))?;
    }
    let join_ref = listener.join_ref.as_deref().and_then(|text| text.parse().ok());
    let client = config.client(token, listener, caller, join_ref.unwrap_or_default());
    let subscribing = changes.subscribe(listener, &token.identity, &config.bindings, client, None);
    let (subscribed, mut failures) = subscribing.await?;
    if config.wait.is_some() && !failures.is_empty() {
        return Err(ChannelError::Unsubscribed(failures.swap_remove(0)));
    }
    Ok((Some(subscribed), failures))
}

async fn rights(service: &Service, token: &Token, topic: &Topic) -> Result<Rights, ChannelError> {
    if topic.private {
        service.authorizer.readable(token, &topic.name).await
    } else {
        Ok(Rights::ALL)
    }
}
