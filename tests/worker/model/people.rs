//! Who is there: tenants, queues, agents, leads and customers.

use rand::{RngExt, rngs::StdRng};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

/// What an agent may speak, and a session ask for.
pub const SKILLS: [&str; 2] = ["french", "german"];

/// Somebody with an account.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: Uuid,
    pub tenant: Option<Uuid>,
    /// What his token says.
    pub claims: String,
}

/// A queue and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    pub id: Uuid,
    pub tenant: Option<Uuid>,
}

/// Everybody.
#[derive(Debug)]
pub struct People {
    pub customers: Vec<Person>,
    pub agents: Vec<Person>,
    pub leads: Vec<Person>,
    pub queues: Vec<Queue>,
}

impl People {
    /// Adds them to an empty desk.
    pub async fn arrive(owner: &mut PgConnection, rng: &mut StdRng, customers: usize) -> Self {
        let tenants = [Some(id(rng)), Some(id(rng)), None];
        for (tenant, name) in tenants.iter().zip(["Alpha", "Beta"]) {
            sqlx::query("insert into public.tenants (id, name) values ($1, $2)")
                .bind(tenant)
                .bind(name)
                .execute(&mut *owner)
                .await
                .unwrap();
        }
        let mut people = Self {
            customers: Vec::new(),
            agents: Vec::new(),
            leads: Vec::new(),
            queues: queues(owner, rng, &tenants).await,
        };

        for number in 0..customers {
            let customer = add_person(owner, rng, tenants[number % 3], None).await;
            people.customers.push(customer);
        }
        for number in 0..customers / 4 {
            let agent = add_person(owner, rng, tenants[number % 3], Some("support_agent")).await;
            sqlx::query("insert into public.support_agents (user_id, status) values ($1, 'offline')")
                .bind(agent.id)
                .execute(&mut *owner)
                .await
                .unwrap();
            let skills: Vec<_> = SKILLS.into_iter().filter(|_| rng.random_bool(0.6)).collect();
            sqlx::query("update chat.agents set capacity = $2, skills = $3 where user_id = $1")
                .bind(agent.id)
                .bind(rng.random_range(1..=3))
                .bind(skills)
                .execute(&mut *owner)
                .await
                .unwrap();
            people.agents.push(agent);
        }
        for tenant in tenants {
            let role = if tenant.is_some() {
                "support_manager"
            } else {
                "platform_admin"
            };
            people.leads.push(add_person(owner, rng, tenant, Some(role)).await);
        }

        // the first two queues have no members: everybody serves them
        for queue in &people.queues[2..] {
            for agent in people.agents.iter().filter(|agent| works_in(agent, *queue)) {
                if rng.random_bool(0.7) {
                    sqlx::query("insert into public.chat_queue_members (queue_id, agent_id) values ($1, $2)")
                        .bind(queue.id)
                        .bind(agent.id)
                        .execute(&mut *owner)
                        .await
                        .unwrap();
                }
            }
        }
        people
    }

    /// Whether leads leave this agent's seats as they are.
    pub fn is_steady(&self, agent: Uuid) -> bool {
        let number = self.agents.iter().position(|one| one.id == agent);
        number.is_none_or(|number| number % 2 == 0)
    }
}

/// Whether an agent's tenant lets him serve a queue.
pub fn works_in(agent: &Person, queue: Queue) -> bool {
    agent.tenant.is_none() || queue.tenant.is_none() || agent.tenant == queue.tenant
}

/// An id that the seed decides.
fn id(rng: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

async fn add_person(
    owner: &mut PgConnection,
    rng: &mut StdRng,
    tenant: Option<Uuid>,
    role: Option<&'static str>,
) -> Person {
    let id = id(rng);
    let account = match tenant {
        Some(tenant) => json!({ "tenant_id": tenant }),
        None => json!({}),
    };
    sqlx::query(
        "insert into auth.users (id, aud, role, email, raw_app_meta_data)
         values ($1, 'authenticated', 'authenticated', $1 || '@example.com', $2)",
    )
    .bind(id)
    .bind(&account)
    .execute(&mut *owner)
    .await
    .unwrap();
    if let Some(role) = role {
        sqlx::query("insert into public.user_roles (user_id, role_name) values ($1, $2)")
            .bind(id)
            .bind(role)
            .execute(owner)
            .await
            .unwrap();
    }
    Person {
        id,
        tenant,
        claims: json!({ "sub": id, "role": "authenticated", "app_metadata": account }).to_string(),
    }
}

async fn queues(owner: &mut PgConnection, rng: &mut StdRng, tenants: &[Option<Uuid>; 3]) -> Vec<Queue> {
    let everybodys: Uuid = sqlx::query_scalar("select id from public.chat_queues where is_default")
        .fetch_one(&mut *owner)
        .await
        .unwrap();
    let mut queues = vec![Queue {
        id: everybodys,
        tenant: None,
    }];
    let asks_for = |skill: &str| vec![skill.to_owned()];
    for (tenant, name, is_default, priority, routing, required_skills) in [
        (tenants[0], "Desk", true, 0, "least_loaded", vec![]),
        (tenants[0], "First class", false, 2, "longest_idle", vec![]),
        (tenants[1], "German", true, 0, "round_robin", asks_for(SKILLS[1])),
        (None, "Night", false, -1, "least_loaded", vec![]),
    ] {
        let queue = Queue { id: id(rng), tenant };
        sqlx::query(
            "insert into public.chat_queues (
               id, tenant_id, name, is_default, priority, routing, required_skills, last_agent_first
             )
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(queue.id)
        .bind(tenant)
        .bind(name)
        .bind(is_default)
        .bind(priority)
        .bind(routing)
        .bind(required_skills)
        .bind(tenant.is_none())
        .execute(&mut *owner)
        .await
        .unwrap();
        queues.push(queue);
    }
    // who waited long in first class goes over to the desk
    sqlx::query(
        "update public.chat_queues set overflow_queue_id = $2, overflow_after = '300 milliseconds' where id = $1",
    )
    .bind(queues[2].id)
    .bind(queues[1].id)
    .execute(owner)
    .await
    .unwrap();
    queues
}
