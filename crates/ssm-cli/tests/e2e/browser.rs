//! A browser through the proxy of `ssm forward`.

use std::fs;

use tempfile::TempDir;

use crate::support::nginx::Nginx;
use crate::support::process::run;
use crate::support::{FAR_NAME, FAST, Loopback};

/// What a page is made of.
const PARTS: u32 = 40;

#[test]
fn a_page_of_many_parts_is_whole() {
    let (loopback, nginx) = (Loopback::with_far_name(&[]), Nginx::start());
    // Each part adds its number; the large one has to come whole to be run at all.
    let mut page = "<body><script>var sum = 0</script>".to_owned();
    for part in 1..=PARTS {
        fs::write(nginx.file(&format!("part-{part}.js")), format!("sum += {part}")).unwrap();
        page.push_str(&format!("<script src=part-{part}.js></script>"));
    }
    let large = format!("var large = '{}'", "x".repeat(5_000_000));
    fs::write(nginx.file("large.js"), large).unwrap();
    page.push_str(
        "<script src=large.js></script><script>
         var request = new XMLHttpRequest();
         request.open('POST', '/post/answer', false);
         request.send(large);
         document.body.innerHTML = 'sum=' + sum + ' large=' + large.length + ' post=' + request.status;
         </script>",
    );
    fs::write(nginx.file("page.html"), page).unwrap();

    let forward = loopback.forward_as(&[FAST, &["-D", "0"]].concat());
    let profile = TempDir::new().unwrap();
    let mut browser = loopback.command("chromium-headless-shell");
    for flag in [
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "dump-dom",
    ] {
        browser.arg(format!("--{flag}"));
    }
    browser.arg(format!("--user-data-dir={}", profile.path().display()));
    browser.arg(format!("--proxy-server=socks5://{}", forward.local));
    let shown = run(browser.arg(format!("http://{FAR_NAME}:{}/page.html", nginx.port)));
    let sum: u32 = (1..=PARTS).sum();
    assert!(shown.contains(&format!("sum={sum} large=5000000 post=201")), "{shown}");
    assert_eq!(fs::read_to_string(nginx.file("answer")).unwrap(), "x".repeat(5_000_000));
}
