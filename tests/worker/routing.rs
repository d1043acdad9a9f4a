//! No seat lost, no agent overloaded, nobody served twice or passed over, under any concurrency. No worker runs here:
//! statements alone keep this up.

use std::{collections::HashMap, sync::Arc};

use switchboard::db::Database;
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use super::desk::{self, ACTIVE, FREE_SEATS, Started, WAITING};
use crate::support::cluster::TestDatabase;

/// Everybody starts at once, each over a connection of his own.
async fn rush(database: &Database, customers: &[Uuid]) -> Vec<Started> {
    let barrier = Arc::new(Barrier::new(customers.len()));
    let mut rush = JoinSet::new();
    for &customer in customers {
        let (barrier, database) = (Arc::clone(&barrier), database.clone());
        rush.spawn(async move {
            let mut connection = desk::owner(&database).await;
            barrier.wait().await;
            desk::start(&mut connection, customer).await.unwrap()
        });
    }
    rush.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_fills_every_seat_and_no_more() {
    let database = TestDatabase::new().await.database;
    let mut owner = desk::owner(&database).await;
    desk::agents(&mut owner, 3, 5).await;
    let customers = desk::users(&mut owner, 24).await;

    let started = rush(&database, &customers).await;

    let mut loads = HashMap::new();
    for agent in started.iter().filter_map(|session| session.agent) {
        *loads.entry(agent).or_insert(0) += 1;
    }
    assert_eq!(
        loads.into_values().collect::<Vec<_>>(),
        [5, 5, 5],
        "seats are left or overfilled"
    );
    assert_eq!(desk::count(&mut owner, ACTIVE).await, 15);
    assert_eq!(desk::count(&mut owner, WAITING).await, 9);
    let places = "select count(distinct queue_position) from public.chat_sessions
        where status = 'waiting' and queue_position between 1 and 9";
    assert_eq!(desk::count(&mut owner, places).await, 9, "places are not 1 to 9");
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tabs_of_one_customer_hold_one_seat() {
    let database = TestDatabase::new().await.database;
    let mut owner = desk::owner(&database).await;
    desk::agents(&mut owner, 2, 5).await;
    let customer = desk::users(&mut owner, 1).await[0];

    rush(&database, &[customer; 16]).await;

    assert_eq!(desk::count(&mut owner, ACTIVE).await, 1);
    assert_eq!(
        desk::count(&mut owner, "select sum(load)::bigint from chat.agents").await,
        1
    );
    desk::assert_in_step(&mut owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_frees_a_seat_and_who_joins_the_line_never_miss_each_other() {
    let database = TestDatabase::new().await.database;
    let mut owner = desk::owner(&database).await;
    let agents = desk::agents(&mut owner, 3, 2).await;
    let customers = desk::users(&mut owner, 16).await;

    // every customer comes, writes and goes, again and again: seats are freed while others join the line
    let mut crowd = JoinSet::new();
    for (number, customer) in customers.into_iter().enumerate() {
        let database = database.clone();
        crowd.spawn(async move {
            let mut connection = desk::owner(&database).await;
            for round in 0..12 {
                let session = desk::start(&mut connection, customer).await?.id;
                desk::say(&mut connection, customer, session).await?;
                // some come again without going first
                if (number + round) % 5 > 0 {
                    desk::end(&mut connection, customer, session).await?;
                }
            }
            sqlx::Result::<()>::Ok(())
        });
    }
    // one agent comes and goes
    let agent = agents[0];
    let mut coming_and_going = desk::owner(&database).await;
    crowd.spawn(async move {
        for status in ["away", "available"].repeat(20) {
            sqlx::query("update public.support_agents set status = $1 where user_id = $2")
                .bind(status)
                .bind(agent)
                .execute(&mut coming_and_going)
                .await?;
        }
        Ok(())
    });
    // meanwhile nobody is ever overloaded
    let mut watcher = desk::owner(&database).await;
    while !crowd.is_empty() {
        let overloaded = "select count(*) from chat.agents a where a.load > a.capacity or a.capacity < (
            select count(*) from public.chat_sessions s where s.agent_id = a.user_id and s.status = 'active')";
        assert_eq!(
            desk::count(&mut watcher, overloaded).await,
            0,
            "an agent is over his capacity"
        );
        while let Some(gone) = crowd.try_join_next() {
            gone.unwrap().unwrap();
        }
        tokio::task::yield_now().await;
    }

    desk::assert_in_step(&mut owner).await;
    let (free, waiting) = (
        desk::count(&mut owner, FREE_SEATS).await,
        desk::count(&mut owner, WAITING).await,
    );
    assert!(free == 0 || waiting == 0, "{free} seats are free while {waiting} wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_who_come_together_share_the_line_in_order() {
    let database = TestDatabase::new().await.database;
    let mut owner = desk::owner(&database).await;
    let agents = desk::agents(&mut owner, 4, 3).await;
    sqlx::query("update public.support_agents set status = 'offline'")
        .execute(&mut owner)
        .await
        .unwrap();
    let customers = desk::users(&mut owner, 16).await;
    for &customer in &customers {
        desk::start(&mut owner, customer).await.unwrap();
    }

    let mut arrivals = JoinSet::new();
    for agent in agents {
        let database = database.clone();
        arrivals.spawn(async move {
            let mut connection = desk::owner(&database).await;
            sqlx::query("update public.support_agents set status = 'available' where user_id = $1")
                .bind(agent)
                .execute(&mut connection)
                .await
                .unwrap();
        });
    }
    arrivals.join_all().await;

    assert_eq!(desk::count(&mut owner, ACTIVE).await, 12);
    let passed_over = "select count(*) from public.chat_sessions w join public.chat_sessions a
        on w.status = 'waiting' and a.status = 'active' and w.started_at < a.started_at";
    assert_eq!(desk::count(&mut owner, passed_over).await, 0, "somebody was overtaken");
    desk::assert_in_step(&mut owner).await;
}
