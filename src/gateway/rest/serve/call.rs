//! Functions.

use std::collections::{BTreeMap, BTreeSet};

use axum::{http::Method, response::Response};
use bytes::Bytes;

use super::{
    super::{
        catalog::{
            Name, Routine,
            routines::{Match, Raw},
        },
        error::{Error, Result},
        media::{self, Subject},
        parse::{
            media::Media,
            payload::Payload,
            prefer::Count,
            query::{Plain, Query, decode_form},
        },
        plan::read::{Bounds, Node, Output, Planner, Source},
        reply::{self, Did, Reply, part},
        sql::{
            RESULT, Sql, Values,
            answer::{self, Answer, Body, Guard, Part, Total},
            call::{self, Arguments},
            condition::operand,
            read,
            write::is_everything,
        },
    },
    request::{Incoming, Work, explained},
};

impl<'a> Incoming<'a> {
    /// Calls a function.
    ///
    /// # Errors
    /// Whatever is wrong with the request, or what Postgres refuses.
    pub async fn call(&self, name: &str) -> Result<Response> {
        let posted = self.parts.method == Method::POST;
        let plain = if posted { Plain::Filters } else { Plain::Arguments };
        let query = Query::parse(&decode_form(self.query_text()), plain, &self.aliases())?;
        let range = self.requested_range(&query)?;
        let (Match { routine, .. }, arguments) = self.resolve(name, &query, posted)?;

        let relation = routine.relation.and_then(|oid| {
            let named = Name::new(&routine.returns.schema, &routine.returns.name);
            self.catalog.relation(&named).filter(|relation| relation.oid == oid)
        });
        let of_rows = call::returns_rows(routine);
        let named = match relation {
            Some(relation) => Name::new(&self.schema, &relation.name),
            None => Name::new(&self.schema, &routine.name),
        };
        let node = match of_rows {
            true => Planner::new(self.catalog, self.settings, true).root(&named, Source::Result, &query, range)?,
            false => Planner::new(self.catalog, self.settings, true).root(
                &named,
                Source::Result,
                &Query::default(),
                range,
            )?,
        };
        let subject = Subject {
            relation: relation.filter(|_| of_rows),
            routine: Some(routine),
            whole: is_everything(&query.select),
        };
        let form = media::choose(&self.accepted(), subject, self.catalog, self.settings)?;
        self.prefer.check()?;
        let mut guards = Vec::new();
        if let Some(rows) = self.prefer.affected_limit() {
            if !routine.set {
                let message =
                    "Function must return SETOF or TABLE when max-affected preference is used with handling=strict";
                return Err(Error::bad("PGRST128", message).into());
            }
            guards.push(Guard::AtMost(rows));
        }
        // A single value is one row, whatever it is.
        if form.single && routine.set {
            guards.push(Guard::Single);
        }
        let answer = Answer {
            body: if self.is_head() || routine.void {
                Body::None
            } else {
                form.body.clone()
            },
            guards: &guards,
            key: &[],
            counts_updates: false,
        };
        let computed = computed(&node);
        let mut source = |sql: &mut Sql| call::call(sql, routine, &arguments, &computed);
        let mut counted = |sql: &mut Sql| read::counted(sql, self.catalog, &node);
        let total = match self.prefer.count {
            None | Some(Count::Planned) => None,
            Some(_) if node.is_unlimited() => Some(Total::Given),
            Some(_) => Some(Total::Counted(&mut counted, None)),
        };
        let mut rows = |sql: &mut Sql| match of_rows {
            true => read::rows(sql, self.catalog, &node),
            // What is given as it is has no other row to be given instead.
            false if form.body == Body::Raw => values(sql, routine, Bounds::All),
            false => values(sql, routine, node.window),
        };
        let mut statement = Sql::default();
        answer::statement(&mut statement, &answer, Some(&mut source), total, &mut rows);
        let statement = explained(statement, &form);
        let work = Work {
            statement: &statement,
            estimate: None,
            values: Values {
                operands: query.filters().map(operand).collect(),
                ..Values::default()
            },
            read_only: !posted || routine.volatility != 'v',
            routine: Some(routine),
            guards: &guards,
        };
        let outcome = self.run(work).await?;
        if form.plan.is_some() {
            return Ok(reply::plan(&outcome.rows, &form.content_type));
        }
        let row = outcome.row()?;
        let total = part(row, Part::Total).and_then(|total| total.parse().ok());
        let did = Did::Call { void: routine.void };
        Reply {
            did,
            prefer: &self.prefer,
            range,
            head: self.is_head(),
            content_type: &form.content_type,
            content_location: None,
            location: None,
            applied: &reply::applied(&self.prefer, did, None, self.settings.db_tx_end.allow_override),
            profile: self.profile.as_deref(),
            warning: reply::deprecated(&node.called_by_target()).as_deref(),
        }
        .build(row, total)
    }

    /// The function that is meant, and what it is called with.
    fn resolve(&self, name: &str, query: &Query, posted: bool) -> Result<(Match<'a>, Arguments)> {
        let qualified = Name::new(&self.schema, name);
        if !posted {
            let arguments = texts(query.arguments.clone());
            let names = arguments.keys().cloned().collect();
            let found = self.catalog.find_routine(&qualified, &names, Raw::Never)?;
            let body = || texts_as_body(&arguments);
            return Ok((found, if found.raw { body() } else { Arguments::Texts(arguments) }));
        }
        let media = self.content_type();
        let raw = Raw::of(&media);
        let body = if self.body.is_empty() && raw == Raw::Json {
            Bytes::from_static(b"{}")
        } else {
            self.body.clone()
        };
        let (names, arguments) = match (&media, raw) {
            (Media::Form, _) => {
                let form = String::from_utf8_lossy(&body);
                let pairs = decode_form(&form).into_iter();
                let arguments = texts(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())));
                (arguments.keys().cloned().collect(), Arguments::Texts(arguments))
            }
            (_, Raw::Type(_)) => (BTreeSet::new(), Arguments::Body(body.clone())),
            _ => self.json_arguments(&media, &qualified, &body, query)?,
        };
        let found = self.catalog.find_routine(&qualified, &names, raw)?;
        let arguments = match arguments {
            Arguments::Texts(texts) if found.raw => texts_as_body(&texts),
            _ if found.raw => Arguments::Body(body),
            named => named,
        };
        Ok((found, arguments))
    }

    fn json_arguments(
        &self,
        media: &Media,
        name: &Name,
        body: &Bytes,
        query: &Query,
    ) -> Result<(BTreeSet<String>, Arguments)> {
        match Payload::parse(media, body, query.columns.as_deref()) {
            Ok(Payload { keys, rows, .. }) => Ok((keys.clone(), Arguments::Json { keys, rows })),
            // An array of something else is fine for a function that takes the body as it is.
            Err(error) => {
                let overloads = self.catalog.routines.get(name).into_iter().flatten();
                let takes_body = overloads
                    .into_iter()
                    .any(|routine| matches!(routine.unnamed(), Some("json" | "jsonb")));
                let valid = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
                match takes_body && valid {
                    true => Ok((BTreeSet::new(), Arguments::Body(body.clone()))),
                    false => Err(error),
                }
            }
        }
    }
}

fn texts(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, Vec<String>> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in pairs {
        texts.entry(key).or_default().push(value);
    }
    texts
}

/// A function's only argument, which has no name: what came as texts, as an object.
fn texts_as_body(texts: &BTreeMap<String, Vec<String>>) -> Arguments {
    let members = texts
        .iter()
        .map(|(name, values)| (name.clone(), values.last().cloned().into()));
    Arguments::Body(serde_json::Value::Object(members.collect()).to_string().into())
}

/// Columns asked of a relation's rows that it does not have: functions of a row, which only the call can compute.
fn computed<'n>(node: &'n Node<'_>) -> Vec<&'n str> {
    let Some(relation) = node.relation else {
        return Vec::new();
    };
    let selected = node.fields.iter().filter_map(|output| match output {
        Output::Column(column) => column.field.as_ref().map(|field| field.name.as_str()),
        Output::Star => None,
    });
    let mut columns: Vec<_> = selected
        .filter(|name| relation.column(name).is_none() && *name != "count")
        .collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// A function's values, as many as asked for. In a plan they bear its name.
fn values(sql: &mut Sql, routine: &Routine, window: Bounds) {
    sql.push("select * from ").name(RESULT).push(" as ").name(&routine.name);
    if let Bounds::Range(range) = window {
        if let Some(limit) = range.limit() {
            sql.push(" limit ").value(limit.to_string());
        }
        if range.first > 0 {
            sql.push(" offset ").value(range.first.to_string());
        }
    }
}
