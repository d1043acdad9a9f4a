//! From verdicts to events at the sockets.

use std::{collections::HashMap, sync::Arc};

use super::{
    due::Due,
    record,
    registry::Subscription,
    stream::Streamed,
    tables::Tables,
    verdict::{Verdict, Verdicts},
};
use crate::gateway::realtime::{hub::Hub, listener::Listener, messages, protocol::Version};

/// One change for one channel.
struct Event<'a> {
    /// One of those that match; a channel has one identity.
    subscription: &'a Subscription,
    error: Option<&'static str>,
    ids: Vec<u32>,
}

/// Sends everything in the order of commits; what the database broadcasts to the hub, if there is one.
pub fn deliver(hub: Option<&Hub>, tables: &Tables, batch: &[Streamed], due: &[Due<'_>], verdicts: &Verdicts) {
    let mut due = due.iter().enumerate().peekable();
    for streamed in batch {
        if messages::is_messages(&streamed.relation) {
            if let Some(hub) = hub {
                messages::deliver(hub, &streamed.relation, &streamed.change);
            }
            continue;
        }
        let mut events: HashMap<u64, Event<'_>> = HashMap::new();
        while let Some((at, due)) = due.next_if(|(_, due)| std::ptr::eq(due.streamed, streamed)) {
            let subscription = &*due.subscription;
            let listener = &subscription.listener;
            let verdict = match (&due.refusal, tables.known(due)) {
                (Some(reason), _) => Verdict::Refused(reason),
                (None, Some((table, access))) => verdicts.of(at, table, access, streamed.change.kind),
                // The table or the role is gone: nobody is left who could have the right.
                (None, None) => Verdict::Hidden,
            };
            let shown = match verdict {
                Verdict::Hidden => continue,
                Verdict::Failed(reason) => {
                    subscription.trouble(&format!("This change could not be checked: {reason}"));
                    continue;
                }
                Verdict::Refused(reason) => {
                    subscription.trouble(&format!("Changes of this table cannot be checked: {reason}"));
                    listener.fail();
                    continue;
                }
                Verdict::TooSlow => {
                    subscription.trouble("{:error, \"Too many database timeouts\"}");
                    listener.fail();
                    continue;
                }
                Verdict::Visible => None,
                Verdict::Error(text) => Some(text),
            };
            let event = events.entry(listener.id).or_insert_with(|| Event {
                subscription,
                error: shown,
                ids: Vec::new(),
            });
            if !event.ids.contains(&subscription.id) {
                event.ids.push(subscription.id);
            }
        }
        send(tables, streamed, events.into_values());
    }
}

/// What is the same for several subscribers is written once.
fn send<'a>(tables: &Tables, streamed: &Streamed, events: impl Iterator<Item = Event<'a>>) {
    let Some(table) = tables.get(&streamed.relation) else {
        return;
    };
    let (mut data, mut frames) = (HashMap::new(), HashMap::new());
    for event in events {
        let Subscription {
            identity,
            select,
            listener,
            ..
        } = event.subscription;
        let Some(access) = table.known_access(&identity.role) else {
            continue;
        };
        let data: &String = data
            .entry((Arc::as_ptr(access), select.as_deref(), event.error))
            .or_insert_with(|| match event.error {
                Some(error) => record::error(table, streamed.change.kind, error),
                None => record::data(table, access, select.as_deref(), &streamed.change, streamed.committed),
            });
        let Listener {
            topic, version, legacy, ..
        } = &**listener;
        let key: (Version, bool, &str, Vec<u32>, *const String) = (*version, *legacy, topic, event.ids, data);
        let frame = frames
            .entry(key)
            .or_insert_with_key(|(version, legacy, topic, ids, _)| {
                if *legacy {
                    return version.text(None, None, topic, streamed.change.kind.name(), data);
                }
                let payload = format!("{{\"ids\":{ids:?},\"data\":{data}}}");
                version.text(None, None, topic, "postgres_changes", &payload)
            });
        listener.send_change(frame.clone(), streamed.position);
    }
}
