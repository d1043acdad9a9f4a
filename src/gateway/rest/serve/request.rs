//! A request that knows who asks and what there is.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

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
        reply::Reply,
        sql::{Sql, Values, answer::Guard, quote, settings::Locals},
        transaction::{Outcome, Transaction},
    },
    App,
    laps::Laps,
    lossy,
    prepared::{Memory, Prepared},
    shape::Shape,
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
    /// What requests like it came to.
    pub memory: &'a Memory,
    /// Who asks.
    pub identity: Identity,
    /// What they would like.
    pub prefer: Prefer,
    /// The schema it is about.
    pub schema: String,
    /// The schema, where the answer has to name it.
    pub profile: Option<String>,
    /// The path behind the service's own.
    pub path: &'a str,
    /// Method, address and headers.
    pub parts: &'a Parts,
    /// The body.
    pub body: Bytes,
}

/// What a request's transaction is made of, besides what all have.
#[derive(Debug)]
pub struct Work<'a> {
    /// The statement.
    pub statement: &'a Sql,
    /// Rows that the planner is to estimate.
    pub estimate: Option<&'a Sql>,
    /// What the two are about.
    pub values: Values,
    /// Whether it must not write.
    pub read_only: bool,
    /// The function it calls.
    pub routine: Option<&'a Routine>,
    /// When it takes itself back.
    pub guards: &'a [Guard],
}

impl<'a> Work<'a> {
    /// The work of a request about a relation.
    pub fn of(prepared: &'a Prepared, values: Values) -> Self {
        Self {
            statement: &prepared.statement,
            estimate: prepared.estimate.as_ref(),
            values,
            read_only: prepared.read_only,
            routine: None,
            guards: &prepared.guards,
        }
    }
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
    pub async fn run(&self, work: Work<'_>) -> Result<Outcome> {
        let mut values = work.values;
        values.marks = work.guards.iter().map(|_| mark()).collect();
        let settings = self.locals(work.read_only, work.routine);
        let transaction = Transaction {
            identity: &self.identity,
            isolation: self.isolation(work.routine),
            settings: &settings,
            pre_request: self.settings.db_pre_request.as_ref().map(|function| {
                let mut sql = Sql::default();
                sql.push("select ").qualified(function).push("()");
                sql
            }),
            statement: work.statement,
            estimate: work.estimate,
            values: &values,
            rollback: match self.prefer.end.filter(|_| self.settings.db_tx_end.allow_override) {
                Some(end) => end == End::Rollback,
                None => self.settings.db_tx_end.rollback,
            },
        };
        self.laps.end("plan");
        let ended = transaction.run(&self.app.pool).await;
        self.laps.end("transaction");
        match ended? {
            Ok(outcome) => Ok(outcome),
            Err((index, rows)) => Err(match work.guards[index] {
                Guard::Single => Error::not_single(&rows),
                Guard::AtMost(_) => Error::bad("PGRST124", "Query result exceeds max-affected preference constraint")
                    .details(format!("The query affects {rows} rows")),
                Guard::Some => Error::bad("PGRST115", "Payload values do not match URL in primary key column(s)"),
            }
            .into()),
        }
    }

    /// What requests of this shape come to: as it is remembered, or as `prepare` finds it, which is then remembered.
    ///
    /// # Errors
    /// Those of `prepare`.
    pub fn known(&self, shape: Option<&Shape>, prepare: impl FnOnce() -> Result<Prepared>) -> Result<Arc<Prepared>> {
        if let Some(prepared) = shape.and_then(|shape| self.memory.get(&shape.key)) {
            return Ok(prepared);
        }
        let prepared = Arc::new(prepare()?);
        if let Some(shape) = shape {
            self.memory.put(&shape.key, &prepared);
        }
        Ok(prepared)
    }

    /// The answer to a request about a relation, as far as its shape decides.
    pub fn reply<'r>(&'r self, prepared: &'r Prepared) -> Reply<'r> {
        Reply {
            did: prepared.did,
            prefer: &self.prefer,
            range: prepared.range,
            head: self.is_head(),
            content_type: &prepared.form.content_type,
            content_location: None,
            location: None,
            applied: &prepared.applied,
            profile: self.profile.as_deref(),
            warning: prepared.warning.as_deref(),
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

    fn locals<'r>(&'r self, read_only: bool, routine: Option<&'r Routine>) -> Locals<'r> {
        let mut locals = Locals::new();
        if read_only {
            locals.set("transaction_read_only", "on");
        }
        locals.set("search_path", self.search_path());
        for (name, value) in self.catalog.roles.get(&self.identity.role).into_iter().flatten() {
            locals.set(name.as_str(), value);
        }
        locals.set("role", &self.identity.role);
        locals.set("request.jwt.claims", self.identity.claims());
        locals.set("request.method", self.parts.method.as_str());
        locals.set("request.path", self.path);
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

    fn search_path(&self) -> String {
        let mut path = quote(&self.schema);
        for schema in &self.settings.db_extra_search_path {
            path.push_str(", ");
            path.push_str(&quote(schema));
        }
        path
    }

    /// Headers and cookies as JSON for SQL.
    fn shown_headers(&self) -> (String, Cow<'static, str>) {
        let all = self.parts.headers.iter();
        let shown = all.filter(|(name, _)| *name != header::COOKIE);
        let headers = shown.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
        let mut cookies = BTreeMap::new();
        for value in self.parts.headers.get_all(header::COOKIE) {
            for cookie in String::from_utf8_lossy(value.as_bytes()).split(';') {
                let (name, value) = cookie.split_once('=').unwrap_or((cookie, ""));
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        // Texts by text are JSON in any case.
        let json = |text: serde_json::Result<String>| text.unwrap_or_default();
        let cookies = match cookies.is_empty() {
            true => "{}".into(),
            false => json(serde_json::to_string(&cookies)).into(),
        };
        (
            json(serde_json::to_string(&headers.collect::<BTreeMap<_, _>>())),
            cookies,
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
fn mark() -> String {
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
