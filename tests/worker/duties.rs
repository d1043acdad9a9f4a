//! Each duty, one tick at a time.

use sqlx::{PgConnection, PgPool};
use switchboard::{
    db::{Database, Login},
    worker::{
        Outcome,
        duties::{IDLE, NOTICES, POSITIONS, QUEUE, RECONCILE, TYPING},
    },
};
use uuid::Uuid;

use super::desk::{self, ACTIVE};
use crate::support::cluster::TestDatabase;

async fn database() -> (Database, PgPool, PgConnection) {
    let database = TestDatabase::new().await.database;
    let owner = desk::owner(&database).await;
    (database.clone(), database.pool(Login::Owner, 4), owner)
}

async fn change(connection: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(connection).await.unwrap();
}

async fn wait_in_line(owner: &mut PgConnection, count: usize) -> Vec<Uuid> {
    let mut sessions = Vec::new();
    for customer in desk::users(owner, count).await {
        sessions.push(desk::start(owner, customer).await.unwrap().id);
    }
    sessions
}

#[tokio::test]
async fn the_queue_fills_seats_that_nobody_announced() {
    let (_, pool, mut owner) = database().await;
    desk::agents(&mut owner, 2, 1).await;
    wait_in_line(&mut owner, 6).await;
    assert_eq!(QUEUE.tick(&pool).await.unwrap(), Outcome::Idle, "no seat is free");

    change(&mut owner, "update chat.agents set capacity = 2").await;
    assert_eq!(QUEUE.tick(&pool).await.unwrap(), Outcome::Done(2));
    assert_eq!(desk::count(&mut owner, ACTIVE).await, 4);
    assert_eq!(QUEUE.tick(&pool).await.unwrap(), Outcome::Idle);
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_on_one_database_share_the_work() {
    let (database, _, mut owner) = database().await;
    desk::agents(&mut owner, 5, 0).await;
    wait_in_line(&mut owner, 30).await;
    change(&mut owner, "update chat.agents set capacity = 4").await;

    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = database.pool(Login::Owner, 2);
        workers.spawn(async move {
            POSITIONS.tick(&pool).await.unwrap();
            let served = QUEUE.tick(&pool).await.unwrap();
            POSITIONS.tick(&pool).await.unwrap();
            match served {
                Outcome::Done(count) => count,
                Outcome::Idle => 0,
            }
        });
    }
    let served: u64 = workers.join_all().await.into_iter().sum();

    assert_eq!(served, 20, "a session was served twice, or a seat left");
    assert_eq!(desk::count(&mut owner, ACTIVE).await, 20);
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test]
async fn places_are_told_when_they_get_better() {
    let (_, pool, mut owner) = database().await;
    let agents = desk::agents(&mut owner, 1, 1).await;
    let sessions = wait_in_line(&mut owner, 3).await;
    let notices = "select count(*) from public.chat_messages where message in ('You are next.', 'You are number 2 in the queue.')";
    assert_eq!(
        NOTICES.tick(&pool).await.unwrap(),
        Outcome::Idle,
        "their channels are not open yet"
    );

    change(
        &mut owner,
        "update chat.queue set entered_at = entered_at - interval '4 seconds'",
    )
    .await;
    assert_eq!(NOTICES.tick(&pool).await.unwrap(), Outcome::Done(2));
    assert_eq!(NOTICES.tick(&pool).await.unwrap(), Outcome::Idle, "told once");
    assert_eq!(desk::count(&mut owner, notices).await, 2);

    change(&mut owner, "update chat.settings set place_notice_every = '0'").await;
    sqlx::query("update public.chat_sessions set status = 'ended' where agent_id = $1")
        .bind(agents[0])
        .execute(&mut owner)
        .await
        .unwrap();
    // the last of the line moved up and hears of it
    assert_eq!(POSITIONS.tick(&pool).await.unwrap(), Outcome::Done(1));
    assert_eq!(NOTICES.tick(&pool).await.unwrap(), Outcome::Done(1));
    let last: String =
        sqlx::query_scalar("select message from public.chat_messages where session_id = $1 order by seq desc limit 1")
            .bind(sessions[2])
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert_eq!(last, "You are next.");
}

#[tokio::test]
async fn typing_goes_stale() {
    let (_, pool, mut owner) = database().await;
    let session = wait_in_line(&mut owner, 1).await[0];
    sqlx::query(
        "insert into public.chat_typing_indicators (session_id, user_id, updated_at)
         select id, customer_id, now() - interval '29 seconds' from public.chat_sessions where id = $1",
    )
    .bind(session)
    .execute(&mut owner)
    .await
    .unwrap();
    assert_eq!(TYPING.tick(&pool).await.unwrap(), Outcome::Idle);

    change(
        &mut owner,
        "update public.chat_typing_indicators set updated_at = updated_at - interval '2 seconds'",
    )
    .await;
    assert_eq!(TYPING.tick(&pool).await.unwrap(), Outcome::Done(1));
    assert_eq!(TYPING.tick(&pool).await.unwrap(), Outcome::Idle);
}

#[tokio::test]
async fn silent_chats_end_and_free_their_seats() {
    let (_, pool, mut owner) = database().await;
    desk::agents(&mut owner, 1, 1).await;
    wait_in_line(&mut owner, 2).await;
    assert_eq!(IDLE.tick(&pool).await.unwrap(), Outcome::Idle);

    change(
        &mut owner,
        "update public.chat_sessions set updated_at = now() - interval '25 hours' where status = 'active'",
    )
    .await;
    assert_eq!(IDLE.tick(&pool).await.unwrap(), Outcome::Done(1));
    assert_eq!(
        desk::count(&mut owner, ACTIVE).await,
        1,
        "the next in line has the seat"
    );
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test]
async fn what_went_past_the_triggers_is_set_right() {
    let (_, pool, mut owner) = database().await;
    desk::agents(&mut owner, 1, 2).await;
    wait_in_line(&mut owner, 4).await;
    assert_eq!(RECONCILE.tick(&pool).await.unwrap(), Outcome::Idle);

    change(&mut owner, "set session_replication_role = replica").await;
    change(&mut owner, "delete from chat.queue").await;
    change(
        &mut owner,
        "update public.chat_sessions set status = 'ended' where status = 'active'",
    )
    .await;
    change(&mut owner, "set session_replication_role = origin").await;
    assert_ne!(RECONCILE.tick(&pool).await.unwrap(), Outcome::Idle);
    desk::assert_in_step(&mut owner).await;
    assert_eq!(RECONCILE.tick(&pool).await.unwrap(), Outcome::Idle);
}
