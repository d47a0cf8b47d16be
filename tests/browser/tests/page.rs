//! The page of `drafthorse inspect` in headless Chromium.
//!
//! `DRAFTHORSE_BIN` names the program. From the root of the repository:
//! `cargo build --release && DRAFTHORSE_BIN=$PWD/target/release/drafthorse cargo test --manifest-path tests/browser/Cargo.toml`

use headless_chrome::{
    Browser, LaunchOptions, Tab,
    browser::tab::point::Point,
    protocol::cdp::{Emulation, Network, types::Event},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

const PROMPT: &str = "Question: Tom has 3 apples and buys 5 more. How many apples does he have?\nAnswer:";

/// A folder with a page, and the numbers on it.
struct Page {
    folder: tempfile::TempDir,
    data: Value,
}

impl Page {
    fn of(arguments: &[&str]) -> Self {
        let program = std::env::var_os("DRAFTHORSE_BIN")
            .expect("DRAFTHORSE_BIN names the program: cargo build --release, and target/release/drafthorse");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.html");
        let output = Command::new(program)
            .args(["inspect", "--device", "cpu", "--json", "--html"])
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { folder, data: serde_json::from_slice(&output.stdout).unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("page.html")
    }

    fn positions(&self) -> &[Value] {
        self.data["positions"].as_array().unwrap()
    }
}

/// A browser with a file open, and what it complained of and asked for.
struct Open {
    _browser: Browser,
    tab: Arc<Tab>,
    complaints: Arc<Mutex<Vec<String>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Open {
    fn file(file: &Path, dark: bool, width: u32) -> Self {
        // A sandbox needs a user that is not root, and containers often have no other.
        let options = LaunchOptions { sandbox: false, ..LaunchOptions::default() };
        let browser = Browser::new(options).expect("Chromium is installed");
        let tab = browser.new_tab().unwrap();
        let (complaints, requests) = (Arc::default(), Arc::default());
        watch(&tab, &complaints, &requests);
        let open = Self { _browser: browser, tab, complaints, requests };
        open.resize(width);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        open.tab.call_method(serde_json::from_value::<Emulation::SetEmulatedMedia>(media).unwrap()).unwrap();
        open.tab.navigate_to(&format!("file://{}", file.display())).unwrap();
        open.tab.wait_until_navigated().unwrap();
        open
    }

    fn resize(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1.0, "mobile": false });
        let metrics: Emulation::SetDeviceMetricsOverride = serde_json::from_value(metrics).unwrap();
        self.tab.call_method(metrics).unwrap();
    }

    /// What an expression is, by way of JSON.
    fn ask(&self, expression: &str) -> Value {
        let text = self.tab.evaluate(&format!("JSON.stringify({expression})"), false).unwrap();
        let text =
            text.value.unwrap_or_else(|| panic!("`{expression}` has no value: {:?}", text.description));
        serde_json::from_str(text.as_str().unwrap()).unwrap()
    }

    fn count(&self, selector: &str) -> usize {
        self.ask(&format!("document.querySelectorAll({selector:?}).length")).as_u64().unwrap() as usize
    }

    /// Where the middle of the first rectangle of an element is, once it is in sight.
    fn middle(&self, selector: &str) -> Point {
        let point = self.ask(&format!(
            "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        Point { x: point[0].as_f64().unwrap(), y: point[1].as_f64().unwrap() }
    }

    fn hover(&self, selector: &str) {
        self.tab.move_mouse_to_point(self.middle(selector)).unwrap();
    }

    fn click(&self, selector: &str) {
        self.tab.click_point(self.middle(selector)).unwrap();
    }

    /// The ids and probabilities of the candidates that the panel shows for a side.
    fn candidates(&self, side: &str) -> Value {
        self.ask(&format!(
            "[...document.querySelectorAll('#panel .candidate.of-{side}')].map((e) => \
             ({{ id: Number(e.dataset.id), probability: Number(e.dataset.probability), name: e.querySelector('code').textContent }}))"
        ))
    }

    /// Nothing was complained of, and nothing loaded but the file itself.
    fn is_clean(&self, file: &Path) {
        assert_eq!(*self.complaints.lock().unwrap(), Vec::<String>::new());
        let own = format!("file://{}", file.display());
        let other = |url: &String| *url != own && !url.starts_with("data:");
        let requests = self.requests.lock().unwrap();
        assert!(requests.contains(&own), "{requests:?}");
        assert!(!requests.iter().any(other), "{requests:?}");
    }
}

fn watch(tab: &Tab, complaints: &Arc<Mutex<Vec<String>>>, requests: &Arc<Mutex<Vec<String>>>) {
    tab.enable_runtime().unwrap();
    tab.enable_log().unwrap();
    tab.call_method(serde_json::from_value::<Network::Enable>(json!({})).unwrap()).unwrap();
    let (complaints, requests) = (complaints.clone(), requests.clone());
    let listener = move |event: &Event| match event {
        Event::RuntimeConsoleAPICalled(event) => {
            complaints.lock().unwrap().push(format!("{:?}", event.params))
        }
        Event::RuntimeExceptionThrown(event) => {
            complaints.lock().unwrap().push(format!("{:?}", event.params))
        }
        Event::LogEntryAdded(event) => complaints.lock().unwrap().push(format!("{:?}", event.params)),
        Event::NetworkRequestWillBeSent(event) => {
            requests.lock().unwrap().push(event.params.request.url.clone())
        }
        _ => {}
    };
    tab.add_event_listener(Arc::new(listener)).unwrap();
}

/// As the page writes a token.
fn visible(name: &str) -> String {
    let sign = |c: char| match c {
        '\n' => '\u{23ce}',
        '\t' => '\u{21e5}',
        ' ' => '\u{2423}',
        c if c < ' ' => char::from_u32(0x2400 + u32::from(c)).unwrap(),
        c => c,
    };
    name.replace("\r\n", "\n").chars().map(sign).collect()
}

fn same_candidates(open: &Open, position: &Value) {
    for side in ["expert", "drafter"] {
        let expected: Vec<Value> = position[side]["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| json!({ "id": c["id"], "probability": c["probability"], "name": visible(c["name"].as_str().unwrap()) }))
            .collect();
        assert_eq!(open.candidates(side), Value::from(expected), "{side} at {}", position["index"]);
    }
}

#[test]
fn every_number_is_on_the_page() {
    let page = Page::of(&[PROMPT, "--generate", "60", "-k", "3", "-t", "0.8"]);
    let open = Open::file(&page.file(), false, 1280);
    let positions = page.positions();
    assert_eq!(open.count("#text .token"), positions.len());
    let layers = page.data["layers"].as_u64().unwrap() as usize + 1;
    assert_eq!(open.count("#lens .cell"), (positions.len() - 1) * layers);
    assert_eq!((open.count("#series svg.chart"), open.count("svg.reliability")), (3, 1));
    assert_eq!(open.count("#acceptance .round"), page.data["generation"]["rounds"].as_array().unwrap().len());
    assert!(open.count("#numbers .number") >= 6 && open.count("#facts dd") >= 6);
    let texts: String = positions.iter().map(|p| p["text"].as_str().unwrap()).collect();
    let shown = open.ask("[...document.querySelectorAll('#text .token')].map((e) => e.textContent.replaceAll('\u{23ce}', '')).join('')");
    assert!(shown.as_str().unwrap().contains(texts.split('\n').next().unwrap()));
    for index in [1, positions.len() / 2, positions.len() - 1] {
        open.hover(&format!("#text .token[data-index=\"{index}\"]"));
        same_candidates(&open, &positions[index]);
        assert_eq!(open.count("#panel svg.histogram"), 2);
        let head = open.ask("document.querySelector('#panel h2 code').textContent");
        assert_eq!(head, visible(positions[index]["name"].as_str().unwrap()));
    }
    open.is_clean(&page.file());
}

#[test]
fn tokens_are_reached_by_mouse_and_by_keys() {
    let page = Page::of(&[PROMPT]);
    let open = Open::file(&page.file(), false, 1280);
    let current = || open.ask("Number(document.querySelector('#text .current').dataset.index)");
    open.click("#text .token[data-index=\"5\"]");
    assert_eq!((current(), open.count("#text .pinned")), (5.into(), 1));
    open.hover("#text .token[data-index=\"9\"]");
    assert_eq!(current(), 5, "what is pinned stays");
    open.tab.press_key("Escape").unwrap();
    open.tab.press_key("ArrowRight").unwrap();
    assert_eq!((current(), open.count("#text .pinned")), (6.into(), 0));
    same_candidates(&open, &page.positions()[6]);
    open.tab.press_key("Enter").unwrap();
    assert_eq!(open.count("#text .pinned"), 1);
    open.tab.press_key("Home").unwrap();
    assert_eq!(
        (current(), open.count("#panel .candidate")),
        (0.into(), 0),
        "nothing comes before the first token"
    );
    open.hover("#lens .cell[data-index=\"3\"][data-layer=\"2\"]");
    assert_eq!(current(), 3);
    let cell = &page.positions()[3]["lens"][2];
    let detail = open.ask("document.getElementById('lens-detail').textContent");
    let edge = |to: &str| {
        open.ask(&format!("(document.getElementById('lens').scrollLeft = {to}, shadeEdge(), document.querySelectorAll('#lens-frame.more').length)"))
    };
    assert_eq!((edge("0"), edge("1e6")), (1.into(), 0.into()), "a shadow where the map goes on");
    assert_eq!(open.count("#panel .laws h3"), 1);
    assert!(detail.as_str().unwrap().contains(&visible(cell["name"].as_str().unwrap())), "{detail}");
    open.hover("#series svg.chart");
    assert_ne!(current(), 3, "the lines lead to tokens too");
    open.is_clean(&page.file());
}

#[test]
fn both_themes_and_widths_show_everything() {
    let page = Page::of(&[PROMPT, "--generate", "30"]);
    for (dark, name) in [(false, "light"), (true, "dark")] {
        let open = Open::file(&page.file(), dark, 1280);
        assert_eq!(open.ask("document.documentElement.dataset.theme"), name);
        let background = open.ask("getComputedStyle(document.body).backgroundColor");
        for width in [1280, 400] {
            open.resize(width);
            let widths = open.ask("[document.documentElement.scrollWidth, window.innerWidth]");
            assert!(widths[0].as_u64() <= Some(width.into()), "{name} at {width}: {widths}");
        }
        for (mode, different) in
            [("entropy", true), ("acceptance", true), ("origin", true), ("origin", false)]
        {
            let colours =
                || open.ask("[...document.querySelectorAll('#text .token')].map((e) => e.style.background)");
            let before = colours();
            open.ask(&format!("document.querySelector('#colour input[value={mode}]').click() ?? 0"));
            assert_eq!(before != colours(), different, "{name}: {mode}");
        }
        open.ask("document.getElementById('theme').click() ?? 0");
        assert_ne!(open.ask("document.documentElement.dataset.theme"), name);
        assert_ne!(open.ask("getComputedStyle(document.body).backgroundColor"), background);
        open.is_clean(&page.file());
    }
}

/// Every text and every token of a list can be read on its ground: WCAG asks for 4.5 to 1.
#[test]
fn what_is_written_can_be_read() {
    let page = Page::of(&[PROMPT, "--generate", "30", "-t", "1"]);
    let contrast = "(() => { \
        const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; \
        const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c) && c !== 'transparent') return c; } return 'rgb(255, 255, 255)'; }; \
        const found = []; \
        for (const e of document.querySelectorAll('#text .token, #lens .cell, p, dt, dd, label, h1, h2, h3, td, th, .number span')) { \
          const [a, b] = [light(getComputedStyle(e).color), light(ground(e))]; \
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); \
          if (ratio < 4.5) found.push([e.tagName, e.className, e.textContent.slice(0, 20), ratio]); } \
        return found; })()";
    for dark in [false, true] {
        let open = Open::file(&page.file(), dark, 1280);
        for mode in ["probability", "entropy", "acceptance", "origin"] {
            open.ask(&format!("document.querySelector('#colour input[value={mode}]').click() ?? 0"));
            assert_eq!(open.ask(contrast), json!([]), "dark {dark}, by {mode}");
        }
        // The measure finds what cannot be read.
        open.ask("(() => { document.querySelector('h1').style.color = getComputedStyle(document.body).backgroundColor; return 0; })()");
        assert_ne!(open.ask(contrast), json!([]));
    }
}

#[test]
fn a_prompt_with_html_in_it_stays_text() {
    let prompt = "</script><b id=\"bold\">bold</b><img src=x onerror=alert(1)> & \u{2028} <!--";
    let page = Page::of(&[prompt]);
    let open = Open::file(&page.file(), false, 1280);
    assert_eq!((open.count("#bold"), open.count("img"), open.count("#text b")), (0, 0, 0));
    let text = open
        .ask("[...document.querySelectorAll('#text .token:not(.part)')].map((e) => e.textContent).join('')");
    assert_eq!(text, prompt);
    open.is_clean(&page.file());
}

#[test]
fn what_is_not_there_is_left_out() {
    let page = Page::of(&[PROMPT, "-d", "ngram", "--no-layers", "--last", "8"]);
    let open = Open::file(&page.file(), false, 1280);
    assert_eq!((open.count("#text .token"), open.count("#lens .cell")), (8, 0));
    assert_eq!(open.count("#series svg.chart"), 1, "the expert's entropy");
    assert_eq!(
        open.ask("[...document.querySelectorAll('section')].filter((e) => e.hidden).map((e) => e.id)"),
        json!(["lens-section", "acceptance-section"])
    );
    assert_eq!((open.count("#panel .of-expert"), open.count("#panel .of-drafter")), (10, 0));
    let notes = open.ask("document.getElementById('notes').textContent");
    assert!(notes.as_str().unwrap().contains("drafter ngram is no model"), "{notes}");
    open.is_clean(&page.file());
}

/// The watch sees what it is there for.
#[test]
fn a_page_that_complains_or_loads_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.html");
    std::fs::write(&file, "<img src=\"other.png\"><script>console.error('no'); null.x;</script>").unwrap();
    let open = Open::file(&file, false, 1280);
    let complaints = open.complaints.lock().unwrap();
    assert!(
        complaints.iter().any(|c| c.contains("\"no\"")) && complaints.iter().any(|c| c.contains("TypeError")),
        "{complaints:?}"
    );
    assert!(open.requests.lock().unwrap().iter().any(|url| url.ends_with("other.png")));
}
