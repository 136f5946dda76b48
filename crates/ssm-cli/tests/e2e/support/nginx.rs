//! nginx with its own files and port.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::process::Process;
use super::system::{Account, at, free_port};

/// A server of our own, run by a user who owns nothing else. `GET` and `PUT` work on files, a `POST` to `/post/NAME` writes the
/// file, and `.txt` is compressed on its way, which makes its length unknown.
pub(crate) struct Nginx {
    pub(crate) port: u16,
    folder: TempDir,
    _process: Process,
}

impl Nginx {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// One with these lines in its `server` block.
    pub(crate) fn with(lines: &str) -> Self {
        let account = Account::unprivileged();
        let folder = account.folder();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        account.give(&files);
        let port = free_port();
        let config = folder.path().join("nginx.conf");
        fs::write(&config, configuration(folder.path(), port, lines)).unwrap();
        account.give(&config);
        let mut nginx = account.command(at("/usr/sbin/nginx"));
        nginx.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&config);
        let process = Process::spawn(nginx.current_dir(folder.path()));
        process.until_says("start worker process ");
        Self { port, folder, _process: process }
    }

    /// The file it serves as `/NAME`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }
}

/// An address of this machine as IPv6 writes it. Not every machine has one of its own.
pub(crate) fn ipv6_literal() -> &'static str {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() { "[::1]" } else { "[::ffff:127.0.0.1]" }
}

fn configuration(folder: &Path, port: u16, lines: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .collect();
    let ipv6 = if ipv6_literal() == "[::1]" { format!("listen [::1]:{port};") } else { String::new() };
    format!(
        "daemon off; pid {folder}/pid; worker_processes 1; error_log stderr notice;
         events {{ worker_connections 1024; }}
         http {{
             access_log off; client_max_body_size 0; keepalive_requests 1000000; server_tokens off;
             {temporary}
             types {{ text/html html; text/plain txt; text/javascript js; }}
             server {{
                 listen 127.0.0.1:{port} backlog=1024; {ipv6}
                 root {folder}/files;
                 location / {{ dav_methods PUT; }}
                 location ~ \\.txt$ {{ gzip on; gzip_types text/plain; }}
                 location /post/ {{ proxy_pass http://127.0.0.1:{port}/; proxy_method PUT; }}
                 {lines}
             }}
         }}"
    )
}
