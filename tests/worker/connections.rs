//! Who is connected, by the rows that realtime keeps of its subscriptions, and what follows when somebody is gone.

use sqlx::{PgConnection, PgPool};
use switchboard::{
    db::{Database, Login},
    worker::{
        Outcome,
        duties::{CONNECTIONS, LOST_AGENTS, LOST_CUSTOMERS, NOTICES, POSITIONS, TYPING},
    },
};
use uuid::Uuid;

use super::desk::{self, ACTIVE, Started, WAITING};
use crate::support::cluster::TestDatabase;

async fn database() -> (Database, PgPool, PgConnection) {
    let database = TestDatabase::new().await.database;
    let owner = desk::owner(&database).await;
    (database.clone(), database.pool(Login::Owner, 4), owner)
}

async fn change(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.unwrap();
}

/// A subscription as realtime writes it: of `user`, to a session's messages or to all he may see of them.
async fn subscribe(owner: &mut PgConnection, user: &str, session: Option<Uuid>) {
    sqlx::query(
        "insert into realtime.subscription (subscription_id, entity, filters, claims, created_at)
         select gen_random_uuid(), 'public.chat_messages',
           case when $2 is null then '{}' else
             array[row('session_id', 'eq', $2, false)::realtime.user_defined_filter]
           end,
           jsonb_build_object('sub', $1, 'role', 'authenticated'), timezone('utc', now()) - interval '1 minute'",
    )
    .bind(user)
    .bind(session.map(|id| id.to_string()))
    .execute(owner)
    .await
    .unwrap();
}

async fn unsubscribe(owner: &mut PgConnection, user: Uuid) {
    sqlx::query("delete from realtime.subscription where claims ->> 'sub' = $1")
        .bind(user.to_string())
        .execute(owner)
        .await
        .unwrap();
}

/// So many minutes go by, in which the worker looked as it does.
async fn pass(owner: &mut PgConnection, pool: &PgPool, minutes: u32) {
    sqlx::query(
        "with agents as (update chat.agents set last_seen_at = last_seen_at - $1 * interval '1 minute'),
           customers as (update chat.connections set seen_at = seen_at - $1 * interval '1 minute')
         update chat.watch set steady_since = steady_since - $1 * interval '1 minute'",
    )
    .bind(minutes.cast_signed())
    .execute(owner)
    .await
    .unwrap();
    CONNECTIONS.tick(pool).await.unwrap();
}

/// One session each, all waiting or all with agents.
async fn start(owner: &mut PgConnection, count: usize) -> Vec<(Uuid, Started)> {
    let mut started = Vec::new();
    for customer in desk::users(owner, count).await {
        started.push((customer, desk::start(owner, customer).await.unwrap()));
    }
    started
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chats_of_a_lost_agent_go_to_others_once() {
    let (database, pool, mut owner) = database().await;
    let gone = desk::agents(&mut owner, 1, 6).await[0];
    start(&mut owner, 6).await;
    let there = desk::agents(&mut owner, 1, 4).await[0];
    subscribe(&mut owner, &gone.to_string(), None).await;
    subscribe(&mut owner, &there.to_string(), None).await;
    CONNECTIONS.tick(&pool).await.unwrap();
    unsubscribe(&mut owner, gone).await;
    pass(&mut owner, &pool, 2).await;

    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = database.pool(Login::Owner, 2);
        workers.spawn(async move { LOST_AGENTS.tick(&pool).await.unwrap() });
    }
    workers.join_all().await;
    assert_eq!(LOST_AGENTS.tick(&pool).await.unwrap(), Outcome::Idle);

    let status: String = sqlx::query_scalar("select status from public.support_agents where user_id = $1")
        .bind(gone)
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(status, "offline");
    assert_eq!(
        desk::count(&mut owner, ACTIVE).await,
        4,
        "the other agent took what he could"
    );
    assert_eq!(desk::count(&mut owner, WAITING).await, 2);
    let left: i64 = sqlx::query_scalar("select load::bigint from chat.agents where user_id = $1")
        .bind(gone)
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(left, 0);
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_who_left_the_line_leave_it_once() {
    let (database, pool, mut owner) = database().await;
    let started = start(&mut owner, 5).await;
    for (customer, session) in &started {
        subscribe(&mut owner, &customer.to_string(), Some(session.id)).await;
    }
    CONNECTIONS.tick(&pool).await.unwrap();
    for (customer, _) in &started[..2] {
        unsubscribe(&mut owner, *customer).await;
    }
    pass(&mut owner, &pool, 1).await;
    assert_eq!(
        LOST_CUSTOMERS.tick(&pool).await.unwrap(),
        Outcome::Idle,
        "they may come back"
    );

    pass(&mut owner, &pool, 2).await;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = database.pool(Login::Owner, 2);
        workers.spawn(async move { LOST_CUSTOMERS.tick(&pool).await.unwrap() });
    }
    workers.join_all().await;

    let abandoned = "select count(*) from public.chat_sessions where status = 'abandoned'";
    assert_eq!(desk::count(&mut owner, abandoned).await, 2);
    let ended = "select count(*) from chat.events where kind = 'ended' and details ->> 'reason' = 'lost'";
    assert_eq!(desk::count(&mut owner, ended).await, 2);
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test]
async fn subscriptions_of_any_kind_can_be_read() {
    let (_, pool, mut owner) = database().await;
    let (customer, session) = start(&mut owner, 1).await[0];
    for odd in ["", "firebase|user", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"] {
        subscribe(&mut owner, odd, Some(session.id)).await;
    }
    change(
        &mut owner,
        "insert into realtime.subscription (subscription_id, entity, filters, claims)
         values (gen_random_uuid(), 'public.chat_messages',
           array[('session_id', 'in', '{a,b}', false), ('message', 'eq', 'x', null)]::realtime.user_defined_filter[],
           '{\"role\": \"anon\"}')",
    )
    .await;
    assert_eq!(
        CONNECTIONS.tick(&pool).await.unwrap(),
        Outcome::Idle,
        "none of them is the customer"
    );

    subscribe(&mut owner, &customer.to_string(), Some(session.id)).await;
    assert_eq!(CONNECTIONS.tick(&pool).await.unwrap(), Outcome::Done(1));
}

#[tokio::test]
async fn where_realtime_cannot_be_read_nobody_is_gone() {
    let (_, pool, mut owner) = database().await;
    let agent = desk::agents(&mut owner, 1, 1).await[0];
    let started = start(&mut owner, 2).await;
    subscribe(&mut owner, &agent.to_string(), None).await;
    subscribe(&mut owner, &started[1].0.to_string(), Some(started[1].1.id)).await;
    CONNECTIONS.tick(&pool).await.unwrap();

    for loss in [
        "revoke select on realtime.subscription from postgres",
        "alter table realtime.subscription drop column filters",
        "drop table realtime.subscription",
    ] {
        sqlx::query(loss).execute(&mut owner).await.unwrap();
        pass(&mut owner, &pool, 60).await;
        for duty in [LOST_AGENTS, LOST_CUSTOMERS, TYPING] {
            assert_eq!(
                duty.tick(&pool).await.unwrap(),
                Outcome::Idle,
                "{} after {loss}",
                duty.name
            );
        }
        NOTICES.tick(&pool).await.unwrap();
    }
    assert_eq!(desk::count(&mut owner, ACTIVE).await, 1);
    assert_eq!(desk::count(&mut owner, WAITING).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_is_numbered_without_gaps_by_several_workers() {
    let (database, pool, mut owner) = database().await;
    change(
        &mut owner,
        "with starts as (
           insert into public.chat_sessions (customer_name, customer_email)
           select 'Guest', '' from generate_series(1, 2500) returning id
         ) select count(*) from starts",
    )
    .await;
    change(
        &mut owner,
        "update public.chat_sessions set queue_position = 7 where status = 'waiting'",
    )
    .await;

    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let pool = database.pool(Login::Owner, 1);
        workers.spawn(async move { POSITIONS.tick(&pool).await.unwrap() });
    }
    workers.join_all().await;
    POSITIONS.tick(&pool).await.unwrap();

    let in_order = "select count(*) from (
        select s.queue_position, row_number() over (order by q.rank_at, q.id) as place
        from chat.queue q join public.chat_sessions s on s.id = q.session_id where q.left_at is null
      ) as line where queue_position = place";
    assert_eq!(desk::count(&mut owner, in_order).await, 2500);
    assert_eq!(POSITIONS.tick(&pool).await.unwrap(), Outcome::Idle);
}
