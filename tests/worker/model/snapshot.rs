//! What the database says at one instant.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};
use sqlx::{AssertSqlSafe, Connection, PgConnection, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

/// An agent's row, and what the model needs to judge it.
#[derive(Debug, Deserialize)]
pub struct Agent {
    pub user_id: Uuid,
    pub capacity: i32,
    pub load: i32,
    pub skills: Vec<String>,
    /// What routing was told.
    pub available: bool,
    /// What routing was told.
    pub queues: Vec<Uuid>,
    /// What he says himself; none: no support agent.
    pub says_available: Option<bool>,
    /// What his account says.
    pub tenant_id: Option<Uuid>,
}

/// An open session.
#[derive(Debug, Deserialize)]
pub struct Session {
    pub id: Uuid,
    pub customer_id: Option<Uuid>,
    pub tenant_id: Option<Uuid>,
    pub agent_id: Option<Uuid>,
    pub status: String,
    pub queue_id: Option<Uuid>,
    pub priority: i32,
    pub required_skills: Vec<String>,
    pub queue_position: Option<i32>,
    /// Since when it waits, as its place says.
    #[serde(with = "time::serde::rfc3339::option")]
    pub queued_at: Option<OffsetDateTime>,
    /// Of its open leg.
    pub seated_with: Vec<Uuid>,
    /// How many open places it has.
    pub places: i64,
    /// Of its place: decides between equals.
    pub place_id: Option<i64>,
    /// Who gave it back, refused it, did not answer or sent it on into the line, in it or in those it superseded.
    pub excluded: Vec<Uuid>,
}

/// A queue.
#[derive(Debug, Deserialize)]
pub struct Queue {
    pub id: Uuid,
    pub tenant_id: Option<Uuid>,
    pub priority: i32,
    pub required_skills: Vec<String>,
    pub members: Vec<Uuid>,
}

/// The desk at one instant.
#[derive(Debug)]
pub struct Snapshot {
    pub agents: Vec<Agent>,
    pub sessions: Vec<Session>,
    pub queues: BTreeMap<Uuid, Queue>,
    /// What a point of priority is worth, in seconds.
    pub priority_step: f64,
}

const AGENTS: &str = "
    select a.user_id, a.capacity, a.load, a.skills, a.available, a.queues,
      s.status = 'available' and s.is_accepting_tickets as says_available,
      (u.raw_app_meta_data ->> 'tenant_id')::uuid as tenant_id
    from chat.agents as a
    join auth.users as u on u.id = a.user_id
    left join public.support_agents as s on s.user_id = a.user_id";

const SESSIONS: &str = "
    with recursive superseded (id, earlier) as (
      select s.id, s.id from public.chat_sessions as s where s.status in ('waiting', 'active')
      union
      select c.id, e.session_id
      from superseded as c
      join chat.events as e on e.other_session_id = c.earlier and e.kind = 'superseded'
    )
    select s.id, s.customer_id, s.tenant_id, s.agent_id, s.status::text, s.queue_id, s.priority, s.required_skills,
      s.queue_position,
      array(select a.agent_id from chat.assignments as a where a.session_id = s.id and a.released_at is null)
        as seated_with,
      (select count(*) from chat.queue as q where q.session_id = s.id and q.left_at is null) as places,
      (select min(q.queued_at) from chat.queue as q where q.session_id = s.id and q.left_at is null) as queued_at,
      (select min(q.id) from chat.queue as q where q.session_id = s.id and q.left_at is null) as place_id,
      array(
        select a.agent_id
        from superseded as c
        join chat.assignments as a on a.session_id = c.earlier
        where c.id = s.id
          and a.outcome in ('returned', 'rejected', 'unanswered', 'transferred')
      ) as excluded
    from public.chat_sessions as s
    where s.status in ('waiting', 'active')";

const QUEUES: &str = "
    select q.id, q.tenant_id, q.priority, q.required_skills,
      array(select m.agent_id from public.chat_queue_members as m where m.queue_id = q.id) as members
    from public.chat_queues as q";

/// Legs and places that are open though their sessions are not.
const LEFT_OPEN: &str = "
    select count(*) from (
      select a.session_id from chat.assignments as a where a.released_at is null
      union all
      select q.session_id from chat.queue as q where q.left_at is null
    ) as held
    where held.session_id not in (select s.id from public.chat_sessions as s where s.status in ('waiting', 'active'))";

/// A query's rows, by the names of their columns.
pub async fn rows<T: DeserializeOwned + Send + Unpin + 'static>(connection: &mut PgConnection, query: &str) -> Vec<T> {
    let query = format!("select to_jsonb(row) from ({query}) as row");
    let rows: Vec<Json<T>> = sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(connection)
        .await
        .unwrap();
    rows.into_iter().map(|Json(row)| row).collect()
}

impl Snapshot {
    /// Everything in one transaction's snapshot, and what of it may never be in any.
    pub async fn take(connection: &mut PgConnection) -> (Self, Vec<String>) {
        let mut transaction = connection
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .unwrap();
        let snapshot = Self {
            agents: rows(&mut transaction, AGENTS).await,
            sessions: rows(&mut transaction, SESSIONS).await,
            queues: rows(&mut transaction, QUEUES)
                .await
                .into_iter()
                .map(|queue: Queue| (queue.id, queue))
                .collect(),
            priority_step: sqlx::query_scalar("select extract(epoch from priority_step)::float8 from chat.settings")
                .fetch_one(&mut *transaction)
                .await
                .unwrap(),
        };
        let left_open: i64 = sqlx::query_scalar(LEFT_OPEN)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();

        let mut wrong = snapshot.wrong_at_any_instant();
        if left_open > 0 {
            wrong.push(format!(
                "{left_open} seats or places are held by sessions that are over"
            ));
        }
        (snapshot, wrong)
    }

    fn wrong_at_any_instant(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut customers = BTreeSet::new();
        let mut served = BTreeMap::<_, i32>::new();
        for session in &self.sessions {
            let id = session.id;
            if session.customer_id.is_some_and(|customer| !customers.insert(customer)) {
                wrong.push(format!("{id}: its customer has another open session"));
            }
            let seats: Vec<_> = session.agent_id.into_iter().collect();
            if seats != session.seated_with {
                wrong.push(format!(
                    "{id}: its agents are {seats:?}, its seats {:?}",
                    session.seated_with
                ));
            }
            if (session.status == "active") != session.agent_id.is_some() {
                wrong.push(format!("{id}: is {} with agent {:?}", session.status, session.agent_id));
            }
            if (session.status == "waiting") != (session.places == 1) || session.places > 1 {
                wrong.push(format!("{id}: is {} with {} places", session.status, session.places));
            }
            for agent in seats {
                *served.entry(agent).or_default() += 1;
            }
        }
        for agent in &self.agents {
            let chats = served.remove(&agent.user_id).unwrap_or_default();
            if agent.load != chats {
                wrong.push(format!(
                    "{}: counts {} chats and has {chats}",
                    agent.user_id, agent.load
                ));
            }
        }
        wrong.extend(served.keys().map(|agent| format!("{agent}: serves without a row")));
        wrong
    }
}
