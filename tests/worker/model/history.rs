//! What may not have happened: somebody overtaken, an agent given back what he refused, a count that is wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::snapshot::rows;

/// A step of a session.
#[derive(Debug, Deserialize)]
struct Event {
    session_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    happened_at: OffsetDateTime,
    kind: String,
    agent_id: Option<Uuid>,
    other_agent_id: Option<Uuid>,
    /// The session that took its place.
    other_session_id: Option<Uuid>,
    reason: Option<String>,
}

/// What a session asked for.
#[derive(Debug, Deserialize)]
struct Asked {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    queue_id: Option<Uuid>,
    tenant_id: Option<Uuid>,
    required_skills: BTreeSet<String>,
}

/// What two sessions must have in common to be equals in line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    queue: Option<Uuid>,
    tenant: Option<Uuid>,
    skills: BTreeSet<String>,
}

/// A session's way up to its first agent.
#[derive(Debug)]
struct Turn {
    session: Uuid,
    started_at: OffsetDateTime,
    /// When routing gave it to somebody.
    served_at: Option<OffsetDateTime>,
    /// When it stopped waiting for whatever reason.
    waited_until: Option<OffsetDateTime>,
}

/// Given by somebody's hand, not by routing.
const BY_HAND: [&str; 4] = ["taken by hand", "given by hand", "named at the start", "reopened"];

fn by_routing(event: &Event) -> bool {
    event.kind == "assigned" && !event.reason.as_deref().is_some_and(|reason| BY_HAND.contains(&reason))
}

/// Everything that must not have happened in this database's time. `line` says who was told that he waits, and when.
pub async fn wrong(owner: &mut PgConnection, line: &HashMap<Uuid, OffsetDateTime>) -> Vec<String> {
    let events: Vec<Event> = rows(
        owner,
        "select session_id, happened_at, kind, agent_id, other_agent_id, other_session_id, details ->> 'reason' as reason
         from chat.events
         order by id",
    )
    .await;
    let mut by_session = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        by_session.entry(event.session_id).or_default().push(event);
    }

    let mut wrong = given_again(&by_session);
    wrong.extend(overtaken(turns(owner, &by_session).await, line));
    wrong.extend(miscounted(owner).await);
    wrong
}

/// Nobody is given a session again that he gave back, refused or did not answer.
fn given_again(by_session: &BTreeMap<Uuid, Vec<Event>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (session, events) in by_session {
        let mut refused = BTreeSet::new();
        for event in events {
            if event.kind == "requeued"
                && matches!(event.reason.as_deref(), Some("returned" | "rejected" | "unanswered"))
            {
                refused.extend(event.other_agent_id);
            } else if by_routing(event) && event.agent_id.is_some_and(|agent| refused.contains(&agent)) {
                wrong.push(format!("{session} was given again to {:?}", event.agent_id));
            }
        }
    }
    wrong
}

/// The first turns of those whom nothing but routing touched, by kind.
async fn turns(owner: &mut PgConnection, by_session: &BTreeMap<Uuid, Vec<Event>>) -> BTreeMap<Kind, Vec<Turn>> {
    let sessions: Vec<Asked> = rows(
        owner,
        "select s.id, s.started_at, s.queue_id, s.tenant_id, s.required_skills
         from public.chat_sessions as s
         where s.priority = 0",
    )
    .await;
    let successors: BTreeSet<_> = by_session
        .values()
        .flatten()
        .filter_map(|event| event.other_session_id)
        .collect();
    let mut turns = BTreeMap::<_, Vec<_>>::new();
    for asked in sessions {
        let session = asked.id;
        let events = by_session.get(&session).map_or(&[][..], Vec::as_slice);
        let moved = [
            "transferred",
            "overflowed",
            "prioritised",
            "superseded",
            "requeued",
            "reopened",
        ];
        if events.is_empty()
            || successors.contains(&session)
            || events.iter().any(|event| moved.contains(&event.kind.as_str()))
        {
            continue;
        }
        let first = events.iter().find(|event| event.kind != "queued");
        let kind = Kind {
            queue: asked.queue_id,
            tenant: asked.tenant_id,
            skills: asked.required_skills,
        };
        turns.entry(kind).or_default().push(Turn {
            session,
            started_at: asked.started_at,
            served_at: first.filter(|event| by_routing(event)).map(|event| event.happened_at),
            waited_until: first.map(|event| event.happened_at),
        });
    }
    turns
}

/// Nobody who started after another was told to wait is served while that one waits.
fn overtaken(turns: BTreeMap<Kind, Vec<Turn>>, line: &HashMap<Uuid, OffsetDateTime>) -> Vec<String> {
    let mut wrong = Vec::new();
    for equals in turns.values() {
        for waiting in equals {
            let Some(&told_at) = line.get(&waiting.session) else {
                continue;
            };
            for other in equals.iter().filter(|other| other.started_at > told_at) {
                let still_waits =
                    |served_at: OffsetDateTime| waiting.waited_until.is_none_or(|until| until > served_at);
                if other.served_at.is_some_and(still_waits) {
                    wrong.push(format!(
                        "{} waited since {told_at} and until {:?}: {}, who came at {}, was served before, at {:?}",
                        waiting.session, waiting.waited_until, other.session, other.started_at, other.served_at
                    ));
                }
            }
        }
    }
    wrong
}

/// Counters are counts.
async fn miscounted(owner: &mut PgConnection) -> Vec<String> {
    let rows: Vec<(Uuid, i32, i64)> = sqlx::query_as(
        "select s.id, s.messages_count, (select count(*) from public.chat_messages as m where m.session_id = s.id)
         from public.chat_sessions as s
         where s.messages_count <> (select count(*) from public.chat_messages as m where m.session_id = s.id)",
    )
    .fetch_all(owner)
    .await
    .unwrap();
    rows.into_iter()
        .map(|(session, told, are)| format!("{session} counts {told} messages and has {are}"))
        .collect()
}
