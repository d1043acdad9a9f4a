//! What a `serve` tells about itself: on stdout when it is up, in its data folder for `status` and others.

use std::{collections::BTreeMap, fs, io, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data_dir::{self, DataDir};

/// URLs and keys of one `serve`, and where to ask whether it still runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub process: u32,
    /// Its own address, for `/health`: the public URL may lead through a proxy.
    pub local_url: String,
    /// What people and scripts want to know, by the names of `supabase status -o env`.
    pub values: BTreeMap<String, String>,
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// `NAME="value"` lines, as `supabase status -o env` prints them
    Env,
    /// For programs
    Json,
}

/// Names in the order of what one wants first, with titles for people.
const TITLES: [(&str, &str); 9] = [
    ("API_URL", "API URL"),
    ("REST_URL", "REST URL"),
    ("STORAGE_S3_URL", "S3 URL"),
    ("DB_URL", "Database URL"),
    ("PUBLISHABLE_KEY", "Publishable key"),
    ("SECRET_KEY", "Secret key"),
    ("JWT_SECRET", "JWT secret"),
    ("ANON_KEY", "anon key"),
    ("SERVICE_ROLE_KEY", "service_role key"),
];

impl Running {
    /// Leaves word in the data folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, data: &DataDir) -> anyhow::Result<()> {
        let path = data.state_file();
        let content = serde_json::to_vec_pretty(self)?;
        data_dir::write_private(&path, &content).with_context(|| format!("write {}", path.display()))
    }

    /// What the last `serve` of this folder left; `None` if there is none, or if it left in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let path = data.state_file();
        match fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content)
                .with_context(|| format!("read {}; another version wrote it", path.display()))
                .map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Takes the word back.
    pub fn forget(data: &DataDir) {
        let _ = fs::remove_file(data.state_file());
    }

    /// What `/health` says, `None` if nobody answers there.
    pub async fn health(&self) -> Option<serde_json::Value> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .ok()?;
        let url = format!("{}/health", self.local_url);
        client.get(url).send().await.ok()?.json().await.ok()
    }

    /// Without what must not get into a log: `serve` prints to wherever a service manager puts it.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let secret = ["DB_URL", "SECRET_KEY", "JWT_SECRET", "SERVICE_ROLE_KEY"];
        let mut public = self.clone();
        public.values.retain(|name, _| !secret.contains(&name.as_str()));
        public
    }

    /// The URLs and keys as text.
    pub fn render(&self, output: Output) -> String {
        let known = TITLES
            .iter()
            .filter_map(|(name, title)| Some((*name, *title, self.values.get(*name)?)));
        match output {
            Output::Table => known
                .map(|(_, title, value)| format!("{title:>18}: {value}\n"))
                .collect(),
            Output::Env => known
                .map(|(name, _, value)| format!("{name}={}\n", quoted(value)))
                .collect(),
            Output::Json => format!("{:#}\n", serde_json::json!(self.values)),
        }
    }
}

/// In double quotes, safe for a shell and for dotenv readers.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_true_is_printed() {
        let values = [
            ("API_URL", "http://127.0.0.1:54321"),
            ("DB_URL", "postgresql://u:p$1@h/d"),
        ];
        let running = Running {
            process: 1,
            local_url: "http://127.0.0.1:54321".into(),
            values: values.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let env = "API_URL=\"http://127.0.0.1:54321\"\nDB_URL=\"postgresql://u:p\\$1@h/d\"\n";
        assert_eq!(running.render(Output::Env), env);
        assert!(!running.render(Output::Table).contains("REST"));
        let json: BTreeMap<String, String> = serde_json::from_str(&running.render(Output::Json)).unwrap();
        assert_eq!(json, running.values);
    }
}
