//! The tables the loop of changes has met, as fresh as judging their changes needs.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sqlx::PgPool;

use super::{
    due::Due,
    pgoutput::Relation,
    refusal,
    table::{Access, Table},
};

/// Tables by `pg_class.oid`.
#[derive(Debug, Default)]
pub struct Tables(HashMap<u32, Table>);

impl Tables {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The table of a change.
    pub fn get(&self, relation: &Relation) -> Option<&Table> {
        self.0.get(&relation.oid)
    }

    /// The table as the change is written, and what the subscriber may read of it.
    pub fn known(&self, due: &Due<'_>) -> Option<(&Table, &Arc<Access>)> {
        let table = self.get(&due.streamed.relation)?;
        let (known, relation) = (&table.relation, &due.streamed.relation);
        let current = Arc::ptr_eq(known, relation) || known.columns == relation.columns;
        let access = table.known_access(&due.subscription.identity.role)?;
        current.then_some((table, access))
    }

    /// Looks up the tables and rights that are new to us or no longer fresh. What Postgres refuses is marked at those
    /// it concerns.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn refresh(&mut self, pool: &PgPool, due: &mut [Due<'_>]) -> sqlx::Result<()> {
        let (mut looked_up, mut refused) = (HashSet::new(), HashMap::new());
        for Due {
            streamed,
            subscription,
            refusal,
            ..
        } in due
        {
            let relation = &streamed.relation;
            let lookup = (
                Arc::as_ptr(relation).addr(),
                subscription.identity.role.as_str().to_owned(),
            );
            if looked_up.insert(lookup.clone())
                && let Err(error) = self.look_up(pool, relation, &lookup.1).await
            {
                let reason = refusal::of_error(error)?;
                tracing::warn!(
                    schema = relation.schema,
                    table = relation.name,
                    role = lookup.1,
                    error = reason,
                    "a table cannot be described; its channels have to join again"
                );
                refused.insert(lookup.clone(), Arc::from(reason));
            }
            *refusal = refused.get(&lookup).cloned();
        }
        Ok(())
    }

    async fn look_up(&mut self, pool: &PgPool, relation: &Arc<Relation>, role: &str) -> sqlx::Result<()> {
        let known = self
            .0
            .get(&relation.oid)
            .is_some_and(|table| Arc::ptr_eq(&table.relation, relation));
        if !known {
            match Table::describe(pool, Arc::clone(relation)).await? {
                Some(table) => self.0.insert(relation.oid, table),
                None => self.0.remove(&relation.oid),
            };
        }
        match self.0.get_mut(&relation.oid) {
            Some(table) => table.access(pool, role).await.map(drop),
            None => Ok(()),
        }
    }
}
