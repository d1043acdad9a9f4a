//! What of the stream is for clients: not the tables that are streamed only because policies read them.

use super::{
    pgoutput::Kind,
    policy::Policies,
    position::Position,
    stream::{Batch, Streamed},
};
use crate::gateway::realtime::messages;

/// Takes from batches what clients may subscribe to.
#[derive(Debug, Default)]
pub struct Offer {
    /// The place of the next change, if it belongs to the same transaction.
    next: Position,
}

impl Offer {
    /// A batch's changes for clients, numbered as if nothing else had been streamed: the numbers are told to clients,
    /// and have to be the same when the stream is read again without the rest.
    pub fn of(&mut self, batch: Batch, policies: Option<&Policies>) -> Vec<Streamed> {
        let changes = batch
            .transactions
            .into_iter()
            .flat_map(|transaction| transaction.changes);
        let Some(policies) = policies else {
            return changes.collect();
        };
        let offered = changes.filter(|streamed| is_offered(policies, streamed));
        offered
            .map(|mut streamed| {
                if self.next.commit != streamed.position.commit {
                    self.next = Position::new(streamed.position.commit, 0);
                }
                streamed.position = self.next;
                self.next = self.next.next();
                streamed
            })
            .collect()
    }
}

fn is_offered(policies: &Policies, streamed: &Streamed) -> bool {
    messages::is_messages(&streamed.relation)
        || policies
            .published(streamed.relation.oid)
            .is_some_and(|published| match streamed.change.kind {
                Kind::Insert => published.insert,
                Kind::Update => published.update,
                Kind::Delete => published.delete,
            })
}
