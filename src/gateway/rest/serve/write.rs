//! POST, PATCH, PUT and DELETE on relations.

use axum::{http::Method, response::Response};

use super::{
    super::{
        catalog::{Column, Name},
        error::Result,
        media::{self, Subject},
        parse::{
            payload::Payload,
            prefer::{Count, Missing, Resolution, Returning},
            query::{Plain, Query},
            range::Range,
        },
        plan::{
            read::{Planner, Source},
            write::{self, Conflict},
        },
        reply::{self, Did, Reply, part},
        sql::{
            RESULT, Sql,
            answer::{self, Answer, Body, Guard, Part},
            read,
            write::{Write, is_everything},
        },
    },
    request::{Incoming, Work, explained, mark},
};

impl Incoming<'_> {
    /// Changes rows of a relation.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or what Postgres refuses.
    pub async fn write(&self, name: &str) -> Result<Response> {
        let method = &self.parts.method;
        let query = Query::parse(self.query_text(), Plain::Filters, &self.aliases())?;
        // Writes have no range, but one that makes no sense is still refused.
        let mut unlimited = query.clone();
        if *method != Method::PUT {
            self.requested_range(&query)?;
        }
        unlimited.windows.remove(&[] as &[String]);
        let payload = match *method {
            Method::DELETE => None,
            _ => Some(Payload::parse(
                &self.content_type(),
                &self.body,
                query.columns.as_deref(),
            )?),
        };
        let relation = self.relation(name)?;
        let qualified = Name::new(&self.schema, name);
        let returning = self.prefer.returning == Some(Returning::Rows);
        // What is not given back is not looked for: neither embeds nor columns.
        let planned = if returning {
            unlimited
        } else {
            without_select(unlimited)
        };
        let planner = Planner::new(self.catalog, self.settings, false);
        let node = planner.root(&qualified, Source::Result, &planned, Range::default())?;
        let columns = match &payload {
            Some(payload) => write::columns(relation, payload)?,
            None => Vec::new(),
        };
        if *method == Method::PUT {
            write::check_put(relation, &query)?;
        }
        self.prefer.check()?;
        let subject = Subject {
            relation: Some(relation),
            routine: None,
            whole: is_everything(&query.select) && returning,
        };
        let form = media::choose(&self.accepted(), subject, self.catalog, self.settings)?;

        let conflict = match *method {
            Method::POST => write::conflict(relation, &query, &self.prefer),
            Method::PUT => Some(Conflict {
                resolution: Resolution::Merge,
                columns: relation.key.clone(),
            }),
            _ => None,
        };
        let merged = conflict
            .as_ref()
            .is_some_and(|conflict| conflict.resolution == Resolution::Merge);
        let did = match *method {
            Method::POST => Did::Insert { merged },
            Method::PUT => Did::Put,
            Method::PATCH => Did::Update,
            _ => Did::Delete,
        };
        let headers_only = did == (Did::Insert { merged }) && self.prefer.returning == Some(Returning::Headers);
        let mut guards = Vec::new();
        if did == Did::Put {
            guards.push((Guard::Some, mark()));
        }
        if form.single {
            guards.push((Guard::Single, mark()));
        }
        if let Some(rows) = self.prefer.affected_limit()
            && matches!(did, Did::Update | Did::Delete)
        {
            guards.push((Guard::AtMost(rows), mark()));
        }
        let answer = Answer {
            body: if returning { form.body.clone() } else { Body::None },
            guards: &guards,
            key: if headers_only { &relation.key } else { &[] },
            counts_updates: merged,
        };
        let write = Write {
            catalog: self.catalog,
            relation,
            node: &node,
            returning: returning || headers_only,
        };
        let mut source = |sql: &mut Sql| self.source(sql, &write, payload.as_ref(), &columns, conflict.as_ref());
        let mut shown = node.clone();
        // They chose the rows that were written; what those are now need not meet them.
        shown.conditions.clear();
        let mut rows = |sql: &mut Sql| match returning {
            true => read::rows(sql, self.catalog, &shown),
            false => {
                sql.push("select 1 from ").name(RESULT);
            }
        };
        let mut statement = Sql::default();
        answer::statement(&mut statement, &answer, Some(&mut source), None, &mut rows);
        let work = Work {
            statement: explained(statement, &form),
            guards: &guards,
            ..Work::default()
        };
        let outcome = self.run(work).await?;
        if form.plan.is_some() {
            return Ok(reply::plan(&outcome.rows, &form.content_type));
        }
        let row = outcome.row()?;
        let written = part(row, Part::Rows).and_then(|rows| rows.parse().ok());
        let total = match (self.prefer.count, did) {
            (Some(Count::Exact), _) => written,
            (Some(Count::Estimated), Did::Insert { .. } | Did::Delete) => written,
            _ => None,
        };
        let has_key = !relation.key.is_empty() || query.on_conflict.is_some();
        let resolution = self.prefer.resolution.filter(|_| *method == Method::POST && has_key);
        let one = written == Some(1);
        Reply {
            did,
            prefer: &self.prefer,
            range: Range::default(),
            head: false,
            content_type: form.content_type,
            content_location: None,
            location: (headers_only && one).then_some((name, relation.key.as_slice())),
            applied: reply::applied(&self.prefer, did, resolution, self.settings.db_tx_end.allow_override),
            profile: self.profile.as_deref(),
            by_target: shown.called_by_target(),
        }
        .build(row, total)
    }

    fn source(
        &self,
        sql: &mut Sql,
        write: &Write<'_>,
        payload: Option<&Payload>,
        columns: &[&Column],
        conflict: Option<&Conflict>,
    ) {
        let missing = self.prefer.missing.unwrap_or(Missing::Null);
        match (&self.parts.method, payload) {
            (&Method::PATCH, Some(payload)) => write.update(sql, payload, columns, missing),
            (method, Some(payload)) => {
                let put = *method == Method::PUT;
                write.insert(sql, payload, columns, missing, conflict, put);
            }
            (_, None) => write.delete(sql),
        }
    }
}

/// The same query, asking for nothing.
fn without_select(query: Query) -> Query {
    Query {
        conditions: query
            .conditions
            .into_iter()
            .filter(|(path, _)| path.is_empty())
            .collect(),
        select: Vec::new(),
        orders: Vec::new(),
        windows: std::collections::HashMap::new(),
        ..query
    }
}
