//! What people do, one step at a time, as the portal does it.

use rand::RngExt;
use sqlx::Row;
use uuid::Uuid;

use super::{
    client::{Client, Failure},
    people::{People, SKILLS},
};

/// A rule forbids it now: no free seat, answered already, over.
const FORBIDDEN: &str = "23514";
/// It is somebody else's by now.
const NOT_YOURS: &str = "42501";

/// What is asked of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything; only the worker sees a raised capacity, a new skill or a changed queue.
    All,
    /// Only what needs no worker: statements serve the line by themselves.
    WithoutWorker,
}

/// A customer's own view.
#[derive(Clone, Copy, Debug, Default)]
pub struct Visit {
    open: Option<Uuid>,
    last: Option<Uuid>,
}

/// A customer starts, writes, reads, types, ends, rates, comes back, opens a second tab. None of this may ever fail.
pub async fn customer(client: &mut Client<'_>, people: &People, scope: Scope, visit: &mut Visit) {
    let me = client.person.id;
    match (visit.open, client.rng.random_range(0..100)) {
        (None, 0..10) if visit.last.is_some() => say(client, "a late message", visit.last, visit).await,
        (None, _) => start(client, people, visit).await,
        // a second tab asks for the same, if nobody is there to look for another agent
        (Some(_), 0..10) if scope == Scope::WithoutWorker => start_as(client, visit, None, vec![]).await,
        (Some(_), 0..10) => start(client, people, visit).await,
        (open, 10..50) => say(client, "a message", open, visit).await,
        (Some(session), 50..60) => {
            let statement = sqlx::query(
                "update public.chat_messages set is_read = true
                 where session_id = $1 and sender_id <> $2 and not is_read",
            )
            .bind(session)
            .bind(me);
            let _ = client.request("a customer reads", &[], statement).await;
        }
        (Some(session), 60..65) => {
            let statement = sqlx::query(
                "insert into public.chat_typing_indicators (session_id, user_id, is_typing)
                 values ($1, $2, true)
                 on conflict (session_id, user_id) do update set is_typing = excluded.is_typing",
            )
            .bind(session)
            .bind(me);
            let _ = client.request("a customer types", &[], statement).await;
        }
        (Some(session), dice) => {
            let rating = (dice >= 90).then(|| client.rng.random_range(1..=5));
            let statement = sqlx::query(
                "update public.chat_sessions set status = 'ended', ended_at = now(), rating = $2 where id = $1
                 returning id",
            )
            .bind(session)
            .bind(rating);
            if client.request("an end", &[], statement).await.is_ok() {
                *visit = Visit {
                    open: None,
                    last: Some(session),
                };
            } else {
                look(client, visit).await;
            }
        }
    }
}

async fn start(client: &mut Client<'_>, people: &People, visit: &mut Visit) {
    let tenant = client.person.tenant;
    let queues: Vec<_> = people
        .queues
        .iter()
        .filter(|queue| queue.tenant.is_none() || queue.tenant == tenant)
        .collect();
    let queue = client
        .chance(50)
        .then(|| queues[client.rng.random_range(0..queues.len())].id);
    let skills = if client.chance(20) { vec![SKILLS[0]] } else { vec![] };
    start_as(client, visit, queue, skills).await;
}

async fn start_as(client: &mut Client<'_>, visit: &mut Visit, queue: Option<Uuid>, skills: Vec<&'static str>) {
    let statement = sqlx::query(
        "insert into public.chat_sessions (customer_id, customer_name, customer_email, status, queue_id, required_skills)
         values ($1, 'Guest User', 'guest@example.com', 'waiting', $2, $3)
         returning id, agent_id, status::text",
    )
    .bind(client.person.id)
    .bind(queue)
    .bind(skills);
    match client.request("a start", &[], statement).await {
        Ok(row) => {
            let row = row.expect("an insert returns its row");
            let session = row.get("id");
            if row.get::<&str, _>("status") != "active" {
                client
                    .seen()
                    .wrong(format!("{session}: the widget was told that it waits"));
            }
            if row.get::<Option<Uuid>, _>("agent_id").is_none() {
                client.seen().joined_line(session);
            }
            visit.open = Some(session);
        }
        Err(_) => look(client, visit).await,
    }
}

async fn say(client: &mut Client<'_>, what: &str, session: Option<Uuid>, visit: &mut Visit) {
    let statement = sqlx::query(
        "insert into public.chat_messages (session_id, sender_id, sender_type, message)
         values ($1, $2, 'customer', 'hello')
         returning id",
    )
    .bind(session)
    .bind(client.person.id);
    let _ = client.request(what, &[], statement).await;
    look(client, visit).await;
}

/// Reads back what is true, as the outcome of a request is unknown, or others may have changed it.
async fn look(client: &mut Client<'_>, visit: &mut Visit) {
    loop {
        let statement = sqlx::query(
            "select id from public.chat_sessions where customer_id = $1 and status in ('waiting', 'active')",
        )
        .bind(client.person.id);
        match client.request("a look", &[], statement).await {
            Ok(row) => {
                visit.open = row.map(|row| row.get("id"));
                return;
            }
            Err(Failure::Lost) => {}
            Err(Failure::Refused(_)) => return,
        }
    }
}

/// An agent comes and goes, writes, reads, ends, gives back, refuses, hands on, takes.
pub async fn agent(client: &mut Client<'_>, people: &People) {
    let me = client.person.id;
    match client.rng.random_range(0..100) {
        0..12 => {
            let status = ["available", "available", "away", "offline"][client.rng.random_range(0..4)];
            let statement = sqlx::query(
                "update public.support_agents set status = $2, is_accepting_tickets = $3 where user_id = $1
                 returning user_id",
            )
            .bind(me)
            .bind(status)
            .bind(client.chance(90));
            let _ = client.request("an agent says where he is", &[], statement).await;
        }
        12..20 => {
            let Some(session) = find(client, Sought::Waiting).await else {
                return;
            };
            let statement = if client.chance(50) {
                sqlx::query("select public.chat_take($1)").bind(session)
            } else {
                sqlx::query("update public.chat_sessions set agent_id = $2 where id = $1 returning id")
                    .bind(session)
                    .bind(me)
            };
            let _ = client
                .request("an agent takes", &[FORBIDDEN, NOT_YOURS], statement)
                .await;
        }
        _ => {
            if let Some(session) = find(client, Sought::Mine).await {
                serve(client, people, session).await;
            }
        }
    }
}

/// An agent and one of his sessions, which may be somebody else's by now.
async fn serve(client: &mut Client<'_>, people: &People, session: Uuid) {
    let me = client.person.id;
    let colleague = people.agents[client.rng.random_range(0..people.agents.len())].id;
    let queue = people.queues[client.rng.random_range(0..people.queues.len())].id;
    let (what, statement) = match client.rng.random_range(0..100) {
        0..30 => (
            "an agent's message",
            sqlx::query(
                "insert into public.chat_messages (session_id, sender_id, sender_type, message)
                 values ($1, $2, 'agent', 'hello')
                 returning id",
            )
            .bind(session)
            .bind(me),
        ),
        30..40 => (
            "an agent reads",
            sqlx::query(
                "update public.chat_messages set is_read = true
                 where session_id = $1 and sender_id <> $2 and not is_read",
            )
            .bind(session)
            .bind(me),
        ),
        40..62 => (
            "an agent ends",
            sqlx::query("update public.chat_sessions set status = 'ended' where id = $1 returning id").bind(session),
        ),
        62..68 => (
            "an agent gives back",
            sqlx::query("select public.chat_requeue($1)").bind(session),
        ),
        68..74 => (
            "an agent gives back by update",
            sqlx::query("update public.chat_sessions set status = 'waiting' where id = $1").bind(session),
        ),
        74..80 => (
            "an agent refuses",
            sqlx::query("select public.chat_reject($1)").bind(session),
        ),
        80..86 => (
            "an agent hands on",
            sqlx::query("select public.chat_transfer($1, agent_id => $2)")
                .bind(session)
                .bind(colleague),
        ),
        86..92 => (
            "an agent hands on by update",
            sqlx::query("update public.chat_sessions set agent_id = $2 where id = $1")
                .bind(session)
                .bind(colleague),
        ),
        92..96 => (
            "an agent hands to a queue",
            sqlx::query("select public.chat_transfer($1, queue_id => $2)")
                .bind(session)
                .bind(queue),
        ),
        _ => (
            "an agent hands to a queue by update",
            sqlx::query("update public.chat_sessions set queue_id = $2 where id = $1")
                .bind(session)
                .bind(queue),
        ),
    };
    let _ = client.request(what, &[FORBIDDEN, NOT_YOURS], statement).await;
}

/// A lead takes over, hands on and ends; with a worker he also sets up seats, skills, members, priorities.
pub async fn lead(client: &mut Client<'_>, people: &People, scope: Scope) {
    let agent = loop {
        let agent = people.agents[client.rng.random_range(0..people.agents.len())].id;
        if !people.is_steady(agent) {
            break agent;
        }
    };
    let queue = people.queues[client.rng.random_range(0..people.queues.len())].id;
    if scope == Scope::WithoutWorker || client.chance(40) {
        let Some(session) = find(client, Sought::Open).await else {
            return;
        };
        let (what, statement) = match client.rng.random_range(0..4) {
            0 => (
                "a lead takes over",
                sqlx::query("select public.chat_take($1)").bind(session),
            ),
            1 => (
                "a lead hands on",
                sqlx::query("select public.chat_transfer($1, agent_id => $2)")
                    .bind(session)
                    .bind(agent),
            ),
            2 => (
                "a lead hands on by update",
                sqlx::query("update public.chat_sessions set agent_id = $2 where id = $1")
                    .bind(session)
                    .bind(agent),
            ),
            _ => (
                "a lead ends",
                sqlx::query("update public.chat_sessions set status = 'ended' where id = $1").bind(session),
            ),
        };
        let _ = client.request(what, &[FORBIDDEN, NOT_YOURS], statement).await;
        return;
    }

    let (what, statement) = match client.rng.random_range(0..6) {
        0 => (
            "a lead sets seats",
            sqlx::query("update public.chat_agents set capacity = $2 where user_id = $1")
                .bind(agent)
                .bind(client.rng.random_range(0..=4)),
        ),
        1 => {
            let skills: Vec<_> = SKILLS.into_iter().filter(|_| client.rng.random_bool(0.6)).collect();
            (
                "a lead sets skills",
                sqlx::query("update public.chat_agents set skills = $2 where user_id = $1")
                    .bind(agent)
                    .bind(skills),
            )
        }
        2 => (
            "a lead adds a member",
            sqlx::query(
                "insert into public.chat_queue_members (queue_id, agent_id) values ($1, $2) on conflict do nothing",
            )
            .bind(queue)
            .bind(agent),
        ),
        3 => (
            "a lead removes a member",
            sqlx::query("delete from public.chat_queue_members where queue_id = $1 and agent_id = $2")
                .bind(queue)
                .bind(agent),
        ),
        4 => (
            "a lead sets a queue's priority",
            sqlx::query("update public.chat_queues set priority = $2 where id = $1")
                .bind(queue)
                .bind(client.rng.random_range(-2..=2)),
        ),
        _ => {
            let Some(session) = find(client, Sought::Waiting).await else {
                return;
            };
            (
                "a lead prioritises",
                sqlx::query("update public.chat_sessions set priority = $2 where id = $1")
                    .bind(session)
                    .bind(client.rng.random_range(-2..=2)),
            )
        }
    };
    let _ = client.request(what, &[FORBIDDEN, NOT_YOURS], statement).await;
}

/// Whom somebody looks for.
#[derive(Clone, Copy)]
enum Sought {
    Waiting,
    Mine,
    Open,
}

/// One of the sessions that the caller sees.
async fn find(client: &mut Client<'_>, sought: Sought) -> Option<Uuid> {
    let statement = match sought {
        Sought::Waiting => {
            "select id from public.chat_sessions where status = 'waiting'
            order by hashtext(id::text || $1) limit 1"
        }
        Sought::Mine => {
            "select id from public.chat_sessions where status = 'active' and agent_id = auth.uid()
            order by hashtext(id::text || $1) limit 1"
        }
        Sought::Open => {
            "select id from public.chat_sessions where status in ('waiting', 'active')
            order by hashtext(id::text || $1) limit 1"
        }
    };
    let dice = client.rng.random_range(0..1_000_000).to_string();
    let found = client.request("a look", &[], sqlx::query(statement).bind(dice)).await;
    found.ok()?.map(|row| row.get("id"))
}
