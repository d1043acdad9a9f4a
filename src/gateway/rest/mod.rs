//! `/rest/v1`: tables, views and functions over HTTP, as PostgREST serves them.
//!
//! A request goes one way through these modules; nothing later changes what an earlier one decided:
//!
//! ```text
//! identity ─▶ parse ─▶ plan (with catalog) ─▶ sql ─▶ one transaction ─▶ reply
//! ```
//!
//! - [`identity`]: whose token, and so which database role
//! - [`parse`]: what the request says
//! - [`catalog`]: what the database offers, kept current
//! - [`plan`]: what the request means there
//! - [`sql`]: the one statement it becomes; every body is made by Postgres
//! - [`serve`]: the order of all this, for each method
//! - [`transaction`]: settings and statement, sent together
//! - [`reply`]: status and headers
//! - [`openapi`], [`media`]: the API's description; which media types there are
//! - [`error`](mod@error): refusals

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{Router, extract::DefaultBodyLimit};

use self::{
    catalog::{
        Name,
        watch::{Current, Watch},
    },
    serve::App,
};
use super::Context;
use crate::db::{Login, session::Pool};

pub mod catalog;
pub mod error;
mod identity;
mod media;
mod openapi;
pub mod parse;
mod plan;
mod reply;
mod serve;
mod sql;
mod transaction;

/// How the service behaves. The names are PostgREST's; each can be set on the login role as well
/// (`alter role authenticator set pgrst.db_max_rows = '500'`, then `notify pgrst, 'reload config'`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The schemas that are served; the first is the default.
    pub db_schemas: Vec<String>,
    /// Where else unqualified names are looked for.
    pub db_extra_search_path: Vec<String>,
    /// The role of callers without a token.
    pub db_anon_role: Option<String>,
    /// How many rows an answer has at most.
    pub db_max_rows: Option<u32>,
    /// A function called before each request's statement.
    pub db_pre_request: Option<Name>,
    /// A function that answers `GET /` instead of the description of the API.
    pub db_root_spec: Option<Name>,
    /// Which settings of a function are made for the whole of its transaction.
    pub db_hoisted_tx_settings: Vec<String>,
    /// Whether clients may aggregate.
    pub db_aggregates_enabled: bool,
    /// Whether clients may see plans.
    pub db_plan_enabled: bool,
    /// How transactions end.
    pub db_tx_end: TxEnd,
    /// The channel that tells of changes.
    pub db_channel: String,
    /// Sessions at most.
    pub db_pool: usize,
    /// The audience a token must be for, if it names one.
    pub jwt_aud: Option<String>,
    /// What the description of the API shows.
    pub openapi_mode: OpenApiMode,
    /// Settings passed on to every transaction: `app.settings.*`.
    pub app_settings: BTreeMap<String, String>,
    /// Names with a dot that stand for relations of ours in select lists, where PostgREST has a syntax error:
    /// `auth.users` is the view of users that the API may show.
    pub aliases: HashMap<String, Name>,
    /// Bytes of a request's body at most.
    pub max_body: usize,
}

/// How transactions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxEnd {
    /// By taking everything back.
    pub rollback: bool,
    /// Unless the client says otherwise.
    pub allow_override: bool,
}

/// What the description of the API shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenApiMode {
    /// What the caller may use.
    FollowPrivileges,
    /// Everything.
    IgnorePrivileges,
    /// Nothing.
    Disabled,
}

impl Default for Settings {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            db_schemas: list(&["public", "graphql_public"]),
            db_extra_search_path: list(&["public", "extensions"]),
            db_anon_role: Some("anon".to_owned()),
            db_max_rows: Some(1_000),
            db_pre_request: None,
            db_root_spec: None,
            db_hoisted_tx_settings: list(&[
                "statement_timeout",
                "plan_filter.statement_cost_limit",
                "default_transaction_isolation",
            ]),
            db_aggregates_enabled: false,
            db_plan_enabled: false,
            db_tx_end: TxEnd {
                rollback: false,
                allow_override: false,
            },
            db_channel: "pgrst".to_owned(),
            db_pool: 8,
            jwt_aud: None,
            openapi_mode: OpenApiMode::FollowPrivileges,
            app_settings: BTreeMap::new(),
            aliases: HashMap::from([("auth.users".to_owned(), Name::new("public", "chat_users"))]),
            max_body: 16 << 20,
        }
    }
}

impl Settings {
    /// These settings with those of the login role laid over them; a value that makes no sense changes nothing.
    #[must_use]
    pub fn overridden(&self, overrides: &BTreeMap<String, String>) -> Self {
        let mut settings = self.clone();
        for (name, value) in overrides {
            if !settings.set(name, value) {
                tracing::warn!(
                    setting = name,
                    "the login role has a pgrst setting that is unknown or makes no sense"
                );
            }
        }
        settings
    }

    fn set(&mut self, name: &str, value: &str) -> bool {
        let list = || {
            value
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        };
        let switch = || match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        };
        let function = || match value.split_once('.') {
            _ if value.is_empty() => None,
            Some((schema, name)) => Some(Name::new(schema, name)),
            None => Some(Name::new("public", value)),
        };
        match name {
            "db_schemas" | "db_schema" => self.db_schemas = list(),
            "db_extra_search_path" => self.db_extra_search_path = list(),
            "db_anon_role" => self.db_anon_role = Some(value.to_owned()).filter(|role| !role.is_empty()),
            "db_max_rows" | "max_rows" => match value.parse() {
                Ok(rows) => self.db_max_rows = Some(rows),
                Err(_) if value.is_empty() => self.db_max_rows = None,
                Err(_) => return false,
            },
            "db_pre_request" => self.db_pre_request = function(),
            "db_root_spec" => self.db_root_spec = function(),
            "db_hoisted_tx_settings" => self.db_hoisted_tx_settings = list(),
            "db_aggregates_enabled" => match switch() {
                Some(enabled) => self.db_aggregates_enabled = enabled,
                None => return false,
            },
            "db_plan_enabled" => match switch() {
                Some(enabled) => self.db_plan_enabled = enabled,
                None => return false,
            },
            "db_tx_end" => match value {
                "commit" | "commit-allow-override" | "rollback" | "rollback-allow-override" => {
                    self.db_tx_end = TxEnd {
                        rollback: value.starts_with("rollback"),
                        allow_override: value.ends_with("override"),
                    };
                }
                _ => return false,
            },
            "jwt_aud" => self.jwt_aud = Some(value.to_owned()).filter(|audience| !audience.is_empty()),
            "openapi_mode" => match value {
                "follow-privileges" => self.openapi_mode = OpenApiMode::FollowPrivileges,
                "ignore-privileges" => self.openapi_mode = OpenApiMode::IgnorePrivileges,
                "disabled" => self.openapi_mode = OpenApiMode::Disabled,
                _ => return false,
            },
            _ => match name
                .strip_prefix("app.settings.")
                .or(name.strip_prefix("app_settings_"))
            {
                Some(name) => {
                    self.app_settings.insert(name.to_owned(), value.to_owned());
                }
                None => return false,
            },
        }
        true
    }
}

/// The service's routes, without the prefix `/rest/v1`.
///
/// # Errors
/// When the sessions' settings cannot be used. A database that is away is waited for, and `/health` says so.
#[expect(clippy::unused_async, reason = "every service's router is")]
pub async fn router(context: Context, settings: Settings) -> anyhow::Result<Router> {
    let pool = Pool::new(&context.database, Login::Authenticator, settings.db_pool)?;
    let current = Current::default();
    let watch = Watch {
        database: context.database.clone(),
        settings: settings.clone(),
        current: current.clone(),
        pool: pool.clone(),
        part: context.health.part("rest"),
        shutdown: context.shutdown.clone(),
    };
    context.shutdown.spawn(watch.run());
    let app = App {
        pool,
        current,
        keys: Arc::clone(&context.keys),
        public_url: context.public_url,
        max_body: settings.max_body,
    };
    Ok(Router::new()
        .fallback(serve::answer)
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::new(app)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(overrides: &[(&str, &str)]) -> Settings {
        let overrides = overrides
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::default().overridden(&overrides.collect())
    }

    #[test]
    fn the_login_roles_settings_lie_over_ours() {
        let set = settings(&[
            ("db_schemas", " public , api,"),
            ("max_rows", "500"),
            ("db_pre_request", "hooks.check"),
            ("db_root_spec", "root"),
            ("db_anon_role", ""),
            ("db_tx_end", "rollback-allow-override"),
            ("jwt_aud", "portal"),
            ("app.settings.colour", "blue"),
        ]);
        assert_eq!(set.db_schemas, ["public", "api"]);
        assert_eq!(set.db_max_rows, Some(500));
        assert_eq!(set.db_pre_request, Some(Name::new("hooks", "check")));
        assert_eq!(set.db_root_spec, Some(Name::new("public", "root")));
        assert_eq!(set.db_anon_role, None, "an empty role lets no stranger in");
        assert!(set.db_tx_end.rollback && set.db_tx_end.allow_override);
        assert_eq!(set.jwt_aud.as_deref(), Some("portal"));
        assert_eq!(set.app_settings["colour"], "blue");
        assert_eq!(settings(&[("db_max_rows", "")]).db_max_rows, None, "empty is no limit");
        for (word, on) in [("true", true), ("YES", true), ("off", false), ("0", false)] {
            assert_eq!(settings(&[("db_plan_enabled", word)]).db_plan_enabled, on, "{word}");
        }
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let usual = format!("{:?}", Settings::default());
        for (name, value) in [
            ("db_max_rows", "many"),
            ("db_plan_enabled", "perhaps"),
            ("db_aggregates_enabled", ""),
            ("db_tx_end", "never"),
            ("openapi_mode", "open"),
            ("server_port", "1"),
        ] {
            assert_eq!(format!("{:?}", settings(&[(name, value)])), usual, "{name}={value}");
        }
    }
}
