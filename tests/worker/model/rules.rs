//! The rules of routing, in Rust: who may serve whom, whose turn it is, and what must hold when nothing is under way.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::snapshot::{Agent, Queue, Session, Snapshot};

impl Snapshot {
    /// What must not be when nobody is doing anything.
    pub fn wrong_at_rest(&self) -> Vec<String> {
        let mut wrong = self.free_seats();
        wrong.extend(self.wrong_places());
        wrong.extend(self.agents.iter().flat_map(|agent| self.misinformed(agent)));
        wrong
    }

    /// Nobody waits for whom somebody is free.
    pub fn free_seats(&self) -> Vec<String> {
        let waiting = self.sessions.iter().filter(|session| session.agent_id.is_none());
        let pairs = waiting.flat_map(|session| self.agents.iter().map(move |agent| (session, agent)));
        pairs
            .filter(|(session, agent)| has_free_seat(agent) && self.suits(agent, session))
            .map(|(session, agent)| {
                format!(
                    "{} waits though {} is free: {} of {}",
                    session.id, agent.user_id, agent.load, agent.capacity
                )
            })
            .collect()
    }

    fn suits(&self, agent: &Agent, session: &Session) -> bool {
        let Some(queue) = session.queue_id.and_then(|id| self.queues.get(&id)) else {
            return false;
        };
        let mut skills = queue.required_skills.iter().chain(&session.required_skills);
        serves(agent, queue)
            && (agent.tenant_id.is_none() || agent.tenant_id == session.tenant_id)
            && skills.all(|skill| agent.skills.contains(skill))
            && session.customer_id != Some(agent.user_id)
            && !session.excluded.contains(&agent.user_id)
    }

    /// Each queue's line has the numbers 1, 2, 3 for each tenant, in order of time and priority.
    fn wrong_places(&self) -> Vec<String> {
        let mut lines = BTreeMap::<_, Vec<_>>::new();
        for session in self.sessions.iter().filter(|session| session.status == "waiting") {
            lines
                .entry((session.queue_id, session.tenant_id))
                .or_default()
                .push(session);
        }
        let mut wrong = Vec::new();
        for line in lines.values_mut() {
            line.sort_by_key(|session| (self.rank(session), session.place_id));
            for (session, place) in line.iter().zip(1..) {
                if session.queue_position != Some(place) {
                    wrong.push(format!(
                        "{} is number {place} and is told {:?}",
                        session.id, session.queue_position
                    ));
                }
            }
        }
        wrong
    }

    fn rank(&self, session: &Session) -> Option<OffsetDateTime> {
        let queue = session.queue_id.and_then(|id| self.queues.get(&id));
        let points = session.priority + queue.map_or(0, |queue| queue.priority);
        Some(session.queued_at? - time::Duration::seconds_f64(f64::from(points) * self.priority_step))
    }

    /// What routing was told about an agent is what is so.
    fn misinformed(&self, agent: &Agent) -> Vec<String> {
        let mut wrong = Vec::new();
        if agent.available != agent.says_available.unwrap_or_default() {
            wrong.push(format!("{}: routing is wrong about his presence", agent.user_id));
        }
        for queue in self.queues.values() {
            if agent.queues.contains(&queue.id) != serves(agent, queue) {
                wrong.push(format!("{}: routing is wrong about queue {}", agent.user_id, queue.id));
            }
        }
        wrong
    }
}

fn has_free_seat(agent: &Agent) -> bool {
    agent.says_available.unwrap_or_default() && agent.load < agent.capacity
}

fn serves(agent: &Agent, queue: &Queue) -> bool {
    (agent.tenant_id.is_none() || queue.tenant_id.is_none() || agent.tenant_id == queue.tenant_id)
        && (queue.members.is_empty() || queue.members.contains(&agent.user_id))
}
