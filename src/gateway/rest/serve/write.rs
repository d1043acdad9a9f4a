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
            query::{self, Pair, Plain, Query, decode_form},
            range::Range,
        },
        plan::{
            read::{Planner, Source},
            write::{self, Conflict},
        },
        reply::{self, Did, Reply, part},
        sql::{
            RESULT, Sql, Values,
            answer::{self, Answer, Body, Guard, Part},
            read,
            write::{Write, is_everything},
        },
    },
    prepared::Prepared,
    request::{Incoming, Work, explained},
    shape::Shape,
};

impl Incoming<'_> {
    /// Changes rows of a relation.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or what Postgres refuses.
    pub async fn write(&self, name: &str) -> Result<Response> {
        let pairs = decode_form(self.query_text());
        let payload = query::columns(&pairs).and_then(|columns| self.payload(columns.as_deref()));
        let mut shape = Shape::of(self.parts, &self.schema, name, &pairs);
        if let (Ok(shape), Ok(payload)) = (&mut shape, &payload) {
            shape.add_payload(payload.as_ref());
        }
        let known = shape.as_ref().ok().filter(|_| payload.is_ok());
        let prepared = self.known(known, || self.prepare_write(name, &pairs, &payload))?;
        let values = Values {
            operands: shape?.operands,
            rows: payload?.map(|payload| payload.rows).unwrap_or_default(),
            ..Values::default()
        };
        let outcome = self.run(Work::of(&prepared, values)).await?;
        if prepared.form.plan.is_some() {
            return Ok(reply::plan(&outcome.rows, &prepared.form.content_type));
        }
        let row = outcome.row()?;
        let written = part(row, Part::Rows).and_then(|rows| rows.parse().ok());
        let total = match (self.prefer.count, prepared.did) {
            (Some(Count::Exact), _) => written,
            (Some(Count::Estimated), Did::Insert { .. } | Did::Delete) => written,
            _ => None,
        };
        let located_by = prepared.located_by.as_ref().filter(|_| written == Some(1));
        let reply = Reply {
            location: located_by.map(|key| (name, key.as_slice())),
            ..self.reply(&prepared)
        };
        reply.build(row, total)
    }

    /// What is to be written; a delete has nothing.
    fn payload(&self, columns: Option<&[String]>) -> Result<Option<Payload>> {
        match self.parts.method {
            Method::DELETE => Ok(None),
            _ => Payload::parse(&self.content_type(), &self.body, columns).map(Some),
        }
    }

    fn prepare_write(&self, name: &str, pairs: &[Pair<'_>], payload: &Result<Option<Payload>>) -> Result<Prepared> {
        let method = &self.parts.method;
        let query = Query::parse(pairs, Plain::Filters, &self.aliases())?;
        // Writes have no range, but one that makes no sense is still refused.
        let mut unlimited = query.clone();
        if *method != Method::PUT {
            self.requested_range(&query)?;
        }
        unlimited.windows.remove(&[] as &[String]);
        let payload = payload.as_ref().map_err(Clone::clone)?;
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
        let columns = match payload {
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
            guards.push(Guard::Some);
        }
        if form.single {
            guards.push(Guard::Single);
        }
        if let Some(rows) = self.prefer.affected_limit()
            && matches!(did, Did::Update | Did::Delete)
        {
            guards.push(Guard::AtMost(rows));
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
        let has_key = !relation.key.is_empty() || query.on_conflict.is_some();
        let resolution = self.prefer.resolution.filter(|_| *method == Method::POST && has_key);
        Ok(Prepared {
            statement: explained(statement, &form),
            estimate: None,
            read_only: false,
            guards,
            form,
            did,
            range: Range::default(),
            applied: reply::applied(&self.prefer, did, resolution, self.settings.db_tx_end.allow_override),
            located_by: headers_only.then(|| relation.key.clone()),
            warning: reply::deprecated(&shown.called_by_target()),
        })
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
            (method, Some(_)) => {
                let put = *method == Method::PUT;
                write.insert(sql, columns, missing, conflict, put);
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
