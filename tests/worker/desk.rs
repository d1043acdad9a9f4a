//! A desk to route chats at: agents, customers, and what they do through the API's roles.

use sqlx::{Connection, PgConnection, Row};
use switchboard::db::{Database, Login};
use uuid::Uuid;

/// What a customer got when he started a chat.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub id: Uuid,
    pub agent: Option<Uuid>,
}

/// A connection with full rights.
pub async fn owner(database: &Database) -> PgConnection {
    database.connect(Login::Admin).await.unwrap()
}

/// Adds users who may sign in.
pub async fn users(connection: &mut PgConnection, count: usize) -> Vec<Uuid> {
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
    sqlx::query(
        "insert into auth.users (id, aud, role, email)
         select id, 'authenticated', 'authenticated', id || '@example.com' from unnest($1::uuid[]) as u (id)",
    )
    .bind(&ids)
    .execute(connection)
    .await
    .unwrap();
    ids
}

/// Adds available agents with so many seats each.
pub async fn agents(connection: &mut PgConnection, count: usize, seats: i32) -> Vec<Uuid> {
    let ids = users(connection, count).await;
    sqlx::query("insert into public.support_agents (user_id, status) select unnest($1::uuid[]), 'offline'")
        .bind(&ids)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("update chat.agents set capacity = $1 where user_id = any($2)")
        .bind(seats)
        .bind(&ids)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("update public.support_agents set status = 'available' where user_id = any($1)")
        .bind(&ids)
        .execute(connection)
        .await
        .unwrap();
    ids
}

/// A transaction of this user, as the gateway opens one for his request.
async fn as_user(connection: &mut PgConnection, user: Uuid) -> sqlx::Result<sqlx::PgTransaction<'_>> {
    let mut transaction = connection.begin().await?;
    let claims = serde_json::json!({ "sub": user, "role": "authenticated" }).to_string();
    sqlx::query("select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true)")
        .bind(claims)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// A start as the portal's widget makes it.
pub async fn start(connection: &mut PgConnection, customer: Uuid) -> sqlx::Result<Started> {
    let mut transaction = as_user(connection, customer).await?;
    let row = sqlx::query(
        "insert into public.chat_sessions (customer_id, customer_name, customer_email, status)
         values ($1, 'Guest User', 'guest@example.com', 'waiting')
         returning id, agent_id, status::text",
    )
    .bind(customer)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    assert_eq!(
        row.get::<&str, _>("status"),
        "active",
        "the widget looks at nothing else"
    );
    Ok(Started {
        id: row.get("id"),
        agent: row.get("agent_id"),
    })
}

/// A message of the customer.
pub async fn say(connection: &mut PgConnection, customer: Uuid, session: Uuid) -> sqlx::Result<()> {
    let mut transaction = as_user(connection, customer).await?;
    sqlx::query(
        "insert into public.chat_messages (session_id, sender_id, sender_type, message)
         values ($1, $2, 'customer', 'hello')",
    )
    .bind(session)
    .bind(customer)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// The end as the portal's widget makes it.
pub async fn end(connection: &mut PgConnection, customer: Uuid, session: Uuid) -> sqlx::Result<()> {
    let mut transaction = as_user(connection, customer).await?;
    sqlx::query("update public.chat_sessions set status = 'ended', ended_at = now() where id = $1")
        .bind(session)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// How many rows a query counts.
pub async fn count(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap()
}

/// What must hold whenever nothing is under way.
pub async fn assert_in_step(connection: &mut PgConnection) {
    let wrong_loads = "select count(*) from chat.agents a where a.load <> (
        select count(*) from public.chat_sessions s where s.agent_id = a.user_id and s.status = 'active')";
    assert_eq!(count(connection, wrong_loads).await, 0, "a load differs from its chats");
    let overloaded = "select count(*) from chat.agents where load > capacity";
    assert_eq!(count(connection, overloaded).await, 0, "an agent is over his capacity");
    let wrong_places = "select count(*) from public.chat_sessions s where (s.status = 'waiting') <> exists (
        select from chat.queue q where q.session_id = s.id and q.left_at is null)";
    assert_eq!(
        count(connection, wrong_places).await,
        0,
        "who waits is not in line, or who is in line does not wait"
    );
    let wrong_seats = "select count(*) from public.chat_sessions s where (s.status = 'active') <> exists (
        select from chat.assignments a where a.session_id = s.id and a.agent_id = s.agent_id and a.released_at is null)";
    assert_eq!(
        count(connection, wrong_seats).await,
        0,
        "who is served has no seat, or the other way round"
    );
}

/// Free seats of available agents.
pub const FREE_SEATS: &str = "select coalesce(sum(greatest(0, a.capacity - a.load)), 0)::bigint
    from chat.agents a join public.support_agents s using (user_id)
    where s.status = 'available' and s.is_accepting_tickets";

/// Sessions in this state.
pub const ACTIVE: &str = "select count(*) from public.chat_sessions where status = 'active'";
/// Sessions in this state.
pub const WAITING: &str = "select count(*) from public.chat_sessions where status = 'waiting'";
