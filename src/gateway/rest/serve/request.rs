//! A request that knows who asks and what there is.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;

use super::{
    super::{
        Settings,
        catalog::{Catalog, Name, Relation, Routine, routines::Raw, similar},
        error::{Error, Result},
        identity::Identity,
        media::Form,
        parse::{
            media::{self, Media},
            path::Resource,
            prefer::{End, Prefer},
        },
        sql::{Sql, answer::Guard, quote, settings::Locals},
        transaction::{Outcome, Transaction},
    },
    App,
    laps::Laps,
    lossy,
};

/// A request that knows who asks and what there is.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// What every request is given.
    pub app: &'a App,
    /// What took how long so far.
    pub laps: &'a Laps,
    /// What there is.
    pub catalog: &'a Catalog,
    /// How the service behaves.
    pub settings: &'a Settings,
    /// Who asks.
    pub identity: Arc<Identity>,
    /// What they would like.
    pub prefer: Prefer,
    /// The schema it is about.
    pub schema: String,
    /// The schema, where the answer has to name it.
    pub profile: Option<String>,
    /// Method, address and headers.
    pub parts: &'a Parts,
    /// The body.
    pub body: Bytes,
}

/// What a request's transaction is made of, besides what all have.
#[derive(Debug, Default)]
pub struct Work<'a> {
    /// The statement.
    pub statement: Sql,
    /// Rows that the planner is to estimate.
    pub estimate: Option<Sql>,
    /// Whether it must not write.
    pub read_only: bool,
    /// The function it calls.
    pub routine: Option<&'a Routine>,
    /// When it takes itself back.
    pub guards: &'a [(Guard, String)],
}

impl<'a> Incoming<'a> {
    /// Whether the answer has no body.
    pub fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// The query string.
    pub fn query_text(&self) -> &'a str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// Names with a dot that select lists may use.
    pub fn aliases(&self) -> Vec<&'a str> {
        self.settings.aliases.keys().map(String::as_str).collect()
    }

    /// The media types the client accepts, the most wanted first.
    pub fn accepted(&self) -> Vec<Media> {
        media::accepted(lossy(&self.parts.headers, &header::ACCEPT).as_deref())
    }

    /// The body's media type.
    pub fn content_type(&self) -> Media {
        lossy(&self.parts.headers, &header::CONTENT_TYPE).map_or(Media::Json, |text| Media::parse(&text))
    }

    /// A relation of the request's schema.
    ///
    /// # Errors
    /// PGRST205.
    pub fn relation(&self, name: &str) -> Result<&'a Relation> {
        let qualified = Name::new(&self.schema, name);
        self.catalog.relation(&qualified).ok_or_else(|| {
            let schema = &self.schema;
            let few = self.catalog.relation_names(schema).take(500).count() < 500;
            let known = few
                .then(|| similar::closest(name, self.catalog.relation_names(schema), 0.75))
                .flatten();
            let message = format!("Could not find the table '{schema}.{name}' in the schema cache");
            let hint = known.map(|known| format!("Perhaps you meant the table '{schema}.{known}'"));
            Box::new(Error::new(StatusCode::NOT_FOUND, "PGRST205", message).hint(hint))
        })
    }

    /// Settings, statement and end of the transaction; then its row, or what the guards said.
    ///
    /// # Errors
    /// What [`Transaction::run`] refuses; PGRST115, PGRST116, PGRST124 of the guards.
    pub async fn run(&self, work: Work<'a>) -> Result<Outcome> {
        let marks: Vec<String> = work.guards.iter().map(|(_, mark)| mark.clone()).collect();
        let isolation = self.isolation(work.routine);
        let transaction = Transaction {
            identity: Arc::clone(&self.identity),
            isolation,
            settings: self.locals(work.read_only, work.routine).statement(),
            pre_request: self.settings.db_pre_request.as_ref().map(|function| {
                let mut sql = Sql::default();
                sql.push("select ").qualified(function).push("()");
                sql
            }),
            statement: work.statement,
            estimate: work.estimate,
            rollback: match self.prefer.end.filter(|_| self.settings.db_tx_end.allow_override) {
                Some(end) => end == End::Rollback,
                None => self.settings.db_tx_end.rollback,
            },
        };
        self.laps.end("plan");
        let ended = transaction.run(&self.app.pool, &marks).await;
        self.laps.end("transaction");
        match ended? {
            Ok(outcome) => Ok(outcome),
            Err((index, rows)) => Err(match work.guards[index].0 {
                Guard::Single => Error::not_single(&rows),
                Guard::AtMost(_) => Error::bad("PGRST124", "Query result exceeds max-affected preference constraint")
                    .details(format!("The query affects {rows} rows")),
                Guard::Some => Error::bad("PGRST115", "Payload values do not match URL in primary key column(s)"),
            }
            .into()),
        }
    }

    fn isolation(&self, routine: Option<&Routine>) -> Option<&'static str> {
        let name = "default_transaction_isolation";
        let own = routine.and_then(|routine| {
            let settings = routine.settings.as_deref().unwrap_or_default();
            settings
                .iter()
                .find_map(|setting| setting.strip_prefix(name)?.strip_prefix('='))
        });
        let of_role = || {
            let settings = self.catalog.roles.get(&self.identity.role)?;
            settings
                .iter()
                .rev()
                .find_map(|(known, value)| (known == name).then_some(value.as_str()))
        };
        match own.or_else(of_role)? {
            "serializable" => Some("set transaction isolation level serializable"),
            "repeatable read" => Some("set transaction isolation level repeatable read"),
            _ => None,
        }
    }

    fn locals(&self, read_only: bool, routine: Option<&'a Routine>) -> Locals<'a> {
        let mut locals = Locals::default();
        if read_only {
            locals.set("transaction_read_only", "on");
        }
        let path: Vec<_> = [&self.schema]
            .into_iter()
            .chain(&self.settings.db_extra_search_path)
            .collect();
        let path: Vec<_> = path.into_iter().map(|schema| quote(schema)).collect();
        locals.set("search_path", path.join(", "));
        for (name, value) in self.catalog.roles.get(&self.identity.role).into_iter().flatten() {
            locals.set(name.as_str(), value);
        }
        locals.set("role", &self.identity.role);
        locals.set("request.jwt.claims", &self.identity.claims);
        locals.set("request.method", self.parts.method.as_str());
        locals.set("request.path", self.parts.uri.path());
        let (headers, cookies) = self.shown_headers();
        locals.set("request.headers", headers);
        locals.set("request.cookies", cookies);
        if let Some(zone) = &self.prefer.timezone {
            locals.set("timezone", zone);
        }
        for setting in routine
            .and_then(|routine| routine.settings.as_ref())
            .into_iter()
            .flatten()
        {
            if let Some((name, value)) = setting.split_once('=')
                && self
                    .settings
                    .db_hoisted_tx_settings
                    .iter()
                    .any(|hoisted| hoisted == name)
            {
                locals.set(name, value);
            }
        }
        for (name, value) in &self.settings.app_settings {
            locals.set(format!("app.settings.{name}"), value);
        }
        locals
    }

    /// Headers and cookies as JSON for SQL.
    fn shown_headers(&self) -> (String, String) {
        let (mut headers, mut cookies) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in &self.parts.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            if name == header::COOKIE {
                for cookie in value.split(';') {
                    let (name, value) = cookie.split_once('=').unwrap_or((cookie, ""));
                    cookies.insert(name.trim().to_owned(), value.trim().to_owned());
                }
            } else {
                headers.insert(name.as_str(), value);
            }
        }
        // Texts by text are JSON in any case.
        let json = |text: serde_json::Result<String>| text.unwrap_or_default();
        (
            json(serde_json::to_string(&headers)),
            json(serde_json::to_string(&cookies)),
        )
    }

    /// What can be done with a resource.
    ///
    /// # Errors
    /// When there is no such resource.
    pub fn options(&self, resource: &Resource) -> Result<Response> {
        let allowed = match resource {
            Resource::Root => "OPTIONS,GET,HEAD".to_owned(),
            Resource::Relation(name) => {
                let relation = self.relation(name)?;
                let (insert, update) = (relation.insertable, relation.updatable);
                let put = insert && update && !relation.key.is_empty();
                let words = [
                    (insert, ",POST"),
                    (put, ",PUT"),
                    (update, ",PATCH"),
                    (relation.deletable, ",DELETE"),
                ];
                let possible = words
                    .into_iter()
                    .filter(|(possible, _)| *possible)
                    .map(|(_, word)| word);
                std::iter::once("OPTIONS,GET,HEAD").chain(possible).collect()
            }
            Resource::Function(name) => {
                let qualified = Name::new(&self.schema, name);
                let found = self
                    .catalog
                    .find_routine(&qualified, &std::collections::BTreeSet::new(), Raw::Json)?;
                match found.routine.volatility {
                    'v' => "OPTIONS,POST".to_owned(),
                    _ => "OPTIONS,GET,HEAD,POST".to_owned(),
                }
            }
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if let Ok(allowed) = HeaderValue::try_from(allowed) {
            headers.insert(header::ALLOW, allowed);
        }
        Ok(response)
    }
}

/// A mark that nobody outside knows, for a guard.
pub fn mark() -> String {
    format!("switchboard {} ", uuid::Uuid::new_v4())
}

/// Puts `explain` before a statement.
pub fn explained(statement: Sql, form: &Form) -> Sql {
    let Some(plan) = &form.plan else {
        return statement;
    };
    let format = if plan.json { "json" } else { "text" };
    let mut options = vec![format!("format {format}")];
    options.extend(plan.options.iter().map(|option| (*option).to_owned()));
    statement.prefixed(&format!("explain ({}) ", options.join(", ")))
}
