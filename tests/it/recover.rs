//! A whole server back onto a blank host: PostgreSQL, Redis and an application in containers of a real engine, from S3.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wirevault::engines::postgres::{ConnectOptions, Connection};

use crate::support::child::Guarded;
use crate::support::docker::{DockerEngine, command_as_root, expect_as_root};
use crate::support::images::{import_postgres, import_redis};
use crate::support::program::{Program, noise};
use crate::support::redis::{Client, Kind, RedisServer};
use crate::support::shape::shape_lines;
use crate::support::wait::PATIENCE;

/// A server: its directory, its engine, its ports, and the repository elsewhere.
struct Stack {
    engine: DockerEngine,
    program: Program,
    endpoint: String,
    postgres: u16,
    redis: u16,
    app: u16,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn labels(service: &str) -> Value {
    json!({ "com.docker.compose.project": "shop", "com.docker.compose.service": service,
        "com.docker.compose.container-number": "1", "com.docker.compose.oneoff": "False" })
}

impl Stack {
    /// Starts everything, and fills it.
    fn start() -> Option<Self> {
        let engine = DockerEngine::start()?;
        engine.import_busybox();
        import_postgres(&engine);
        import_redis(&engine);
        let program = Program::on_s3();
        let config = std::fs::read_to_string(program.path("wirevault.toml")).unwrap();
        let endpoint = config
            .split("endpoint = \"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        std::fs::remove_file(program.path("wirevault.toml")).unwrap();
        let (postgres, redis, app) = (free_port(), free_port(), free_port());
        let stack = Self {
            engine,
            program,
            endpoint,
            postgres,
            redis,
            app,
        };
        stack.write_directory();
        stack.start_containers();
        stack.fill();
        Some(stack)
    }

    fn directory(&self) -> PathBuf {
        self.program.path("srv")
    }

    fn write_directory(&self) {
        std::fs::create_dir_all(self.directory().join("site")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(self.directory().join(name), text).unwrap();
        write(
            ".env",
            "POSTGRES_USER=shop\nPOSTGRES_PASSWORD='geheim pg'\nREDIS_PASSWORD=geheim-redis\n",
        );
        write("docker-compose.yml", "services: {}\n");
        write("site/index.conf", "answer 42\n");
        let config = format!(
            "[repository]\nurl = \"s3://bucket/app\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\n\
             [source.config]\nkind = \"files\"\nroot = \"{}\"\n\
             [source.shop]\nkind = \"postgres\"\nurl = \"postgres://shop@127.0.0.1:{}/shop\"\n\
             [source.cache]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n\
             [source.stack]\nkind = \"docker\"\nsocket = \"{}\"\nimages = true\nlabels = [\"com.docker.compose.project=shop\"]\n\
             exclude = [\"shop_pgdata\"]\nhealth = [\"http://127.0.0.1:{}/ok.txt\"]\n\
             [job.all]\nsources = [\"config\", \"shop\", \"cache\", \"stack\"]\n",
            self.endpoint,
            self.directory().display(),
            self.postgres,
            self.redis,
            self.engine.socket().display(),
            self.app
        );
        write("wirevault.toml", &config);
    }

    fn start_containers(&self) {
        let e = &self.engine;
        for volume in ["shop_pgdata", "shop_uploads"] {
            let labels = json!({ "com.docker.compose.project": "shop", "com.docker.compose.volume": volume });
            e.post("/volumes/create", &json!({ "Name": volume, "Labels": labels }));
        }
        let network =
            json!({ "Name": "shop_default", "Driver": "bridge", "Labels": { "com.docker.compose.project": "shop" } });
        e.post("/networks/create", &network);
        std::fs::write(e.volume("shop_uploads").join("ok.txt"), "fine\n").unwrap();
        std::fs::write(e.volume("shop_uploads").join("photo"), noise(5 << 20)).unwrap();
        let unless_stopped = json!({ "Name": "unless-stopped" });
        e.run("shop-db-1", &json!({
            "Image": "postgres:15", "Cmd": ["/bin/sh", "/entry.sh"], "User": "70:70", "Labels": labels("db"),
            "Env": ["POSTGRES_USER=shop", "POSTGRES_PASSWORD=geheim pg", "POSTGRES_DB=shop", format!("PORT={}", self.postgres)],
            "HostConfig": { "Binds": ["shop_pgdata:/var/lib/postgresql/data"], "NetworkMode": "host", "RestartPolicy": unless_stopped },
        }));
        let port = self.redis.to_string();
        e.run(
            "shop-cache-1",
            &json!({
                "Image": "redis:7", "Labels": labels("cache"), "HostConfig": { "NetworkMode": "host" },
                "Cmd": ["/usr/bin/redis-server", "--port", port, "--bind", "127.0.0.1", "--requirepass", "geheim-redis",
                    "--save", "", "--dir", "/data", "--enable-debug-command", "yes"],
            }),
        );
        e.run("shop-api-1", &json!({
            "Image": "busybox:1", "Labels": labels("api"),
            "Cmd": ["/bin/busybox", "httpd", "-f", "-p", format!("127.0.0.1:{}", self.app), "-h", "/srv"],
            "Healthcheck": { "Test": ["CMD", "/bin/busybox", "test", "-f", "/srv/ok.txt"], "Interval": 500_000_000, "Retries": 3 },
            "HostConfig": { "Binds": ["shop_uploads:/srv"], "NetworkMode": "host" },
        }));
        e.run(
            "shop-worker-1",
            &json!({
                "Image": "busybox:1", "Labels": labels("worker"), "Cmd": ["/bin/sleep", "1000000"],
                "HostConfig": { "NetworkMode": "shop_default" },
                "NetworkingConfig": { "EndpointsConfig": { "shop_default": { "Aliases": ["worker"] } } },
            }),
        );
    }

    fn query(&self, sql: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let url = format!("postgres://shop:geheim%20pg@127.0.0.1:{}/shop", self.postgres);
        runtime.block_on(async {
            let mut last = None;
            let from = Instant::now();
            while from.elapsed() < PATIENCE {
                let options = ConnectOptions::from_url_with(&url, None, &|_| None).unwrap();
                match Connection::open(&options).await {
                    Ok(mut connection) => {
                        let answer = connection.query(sql).await.unwrap();
                        return answer.scalar().unwrap_or_default().to_owned();
                    }
                    Err(error) => last = Some(error),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!(
                "{last:?}: {}",
                String::from_utf8_lossy(
                    &self
                        .engine
                        .try_call("GET", "/containers/shop-db-1/logs?stdout=1&stderr=1", None)
                        .1
                )
            );
        })
    }

    fn redis(&self) -> Client {
        let from = Instant::now();
        while from.elapsed() < PATIENCE {
            if let Ok(mut client) = Client::connect(self.redis) {
                client.say("AUTH geheim-redis");
                return client;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("Redis does not answer");
    }

    fn fill(&self) {
        self.query("SELECT 1");
        self.query("CREATE TABLE orders (id int PRIMARY KEY, what text, at timestamptz DEFAULT '2026-01-01')");
        self.query("INSERT INTO orders SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 50000) n");
        self.query("CREATE VIEW recent AS SELECT * FROM orders WHERE id > 49000");
        let mut redis = self.redis();
        for n in 0..2000 {
            redis.say(&format!("HSET cart:{n} user {n} total {}", n * 7));
        }
    }

    /// What must be the same afterwards.
    fn picture(&self) -> (String, String, Vec<u8>) {
        (
            self.query(
                "SELECT md5(string_agg(o::text, ',' ORDER BY id)) || (SELECT count(*) FROM recent) FROM orders o",
            ),
            self.redis().text(&[b"DEBUG", b"DIGEST"]),
            std::fs::read(self.engine.volume("shop_uploads").join("photo")).unwrap(),
        )
    }

    fn back_up(&self) {
        let mut command = command_as_root(&self.program, &["backup", "all"]);
        command.current_dir(self.directory());
        command
            .env("PGPASSWORD", "geheim pg")
            .env("REDISCLI_AUTH", "geheim-redis");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Nothing of the server is left: containers, networks, volumes, images, `.env`, wirevault.toml.
    fn lose_everything(&mut self) {
        self.engine.replace_by_a_blank_one();
        std::fs::remove_dir_all(self.directory()).unwrap();
        std::fs::create_dir(self.program.path("blank")).unwrap();
    }

    /// The program on the blank host: the URL of the repository and its keys are all it has.
    fn recover(&self, more: &[&str]) -> Command {
        let socket = self.engine.socket().display().to_string();
        let mut arguments = vec![
            "recover",
            "latest",
            "--from",
            "s3://bucket/app",
            "--endpoint",
            &self.endpoint,
        ];
        // A blank host has no configuration: the places are the snapshot's.
        arguments.extend(["--docker-socket", &socket, "--accept-places"]);
        arguments.extend(more);
        let mut command = command_as_root(&self.program, &arguments);
        command
            .current_dir(self.program.path("blank"))
            .env("AWS_REGION", "us-east-1");
        command
    }

    fn assert_whole(&self, before: &(String, String, Vec<u8>)) {
        assert_eq!(&self.picture(), before);
        assert!(self.directory().join(".env").exists() && self.directory().join("wirevault.toml").exists());
        for name in ["shop-db-1", "shop-cache-1", "shop-api-1", "shop-worker-1"] {
            assert!(self.engine.is_running(name), "{name}");
        }
        let api = self.engine.get("/containers/shop-api-1/json");
        assert_eq!(api["Config"]["Labels"], labels("api"));
        let database = self.engine.get("/containers/shop-db-1/json");
        assert_eq!(database["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
        let worker = self.engine.get("/containers/shop-worker-1/json");
        assert!(
            worker["NetworkSettings"]["Networks"]["shop_default"]["Aliases"]
                .to_string()
                .contains("worker")
        );
        assert_eq!(
            self.engine.get("/networks/shop_default")["Labels"]["com.docker.compose.project"],
            "shop"
        );
        assert_eq!(
            self.engine.get("/volumes/shop_pgdata")["Labels"]["com.docker.compose.volume"],
            "shop_pgdata"
        );
    }
}

#[test]
fn a_whole_server_comes_back_from_its_repository_alone() {
    let Some(mut stack) = Stack::start() else { return };
    let before = stack.picture();
    stack.back_up();
    stack.lose_everything();

    // The plan says everything and changes nothing.
    let plan = stack.recover(&["--dry-run"]).output().unwrap();
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.status.success(), "{text}{}", String::from_utf8_lossy(&plan.stderr));
    for part in [
        "image postgres:15: is loaded from the snapshot",
        "network shop_default: is created",
        "volume shop_uploads: ",
        "container shop-db-1 (first): is created and started",
        "container shop-api-1: is created and started",
        "in container shop-cache-1",
        "space at ",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("geheim") && !stack.directory().exists());
    let plan = stack.recover(&["--dry-run", "--json"]).output().unwrap();
    insta::assert_snapshot!("json_of_the_plan", shape_lines(&plan.stdout));
    assert_eq!(stack.engine.get("/images/json").as_array().unwrap().len(), 0);

    let from = Instant::now();
    let done = stack.recover(&["--json"]).output().unwrap();
    let seconds = from.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(
        done.status.code(),
        Some(0),
        "{}{said}",
        String::from_utf8_lossy(&done.stdout)
    );
    insta::assert_snapshot!("json", shape_lines(&done.stdout));
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    for step in document["steps"].as_array().unwrap() {
        println!(
            "{:6.2} s {}",
            step["seconds"].as_f64().unwrap(),
            step["step"].as_str().unwrap()
        );
    }
    println!("{seconds:.1} s in all");
    assert!(!said.contains("geheim") && !document.to_string().contains("geheim"));
    stack.assert_whole(&before);
    let rows = document["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["step"] == "restore postgres shop")
        .unwrap();
    assert_eq!(rows["proof"]["report"]["rows_verified"], true, "{rows}");
    assert_eq!(std::fs::read_dir(stack.program.path("blank")).unwrap().count(), 0);
}

#[test]
fn an_interrupted_recovery_goes_on_where_it_stopped() {
    let Some(mut stack) = Stack::start() else { return };
    let before = stack.picture();
    stack.back_up();
    stack.lose_everything();
    let mut killed = stack
        .recover(&[])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state = |stack: &Stack| {
        let files = std::fs::read_dir(stack.program.path("blank")).unwrap().flatten();
        let mut files = files.filter(|file| file.path().extension().is_some_and(|end| end == "json"));
        files
            .next()
            .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
    };
    let from = Instant::now();
    while !state(&stack).is_some_and(|text| text.contains("restore postgres shop")) {
        assert!(from.elapsed() < PATIENCE, "{:?}", state(&stack));
        assert!(killed.try_wait().unwrap().is_none(), "{:?}", state(&stack));
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    // A health URL that never answers ends it with a hint; a third attempt needs nothing but the rest.
    let never = stack
        .recover(&["--health", "http://127.0.0.1:1/never", "--wait", "15s"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&never.stderr).into_owned();
    assert_eq!(never.status.code(), Some(1), "{said}");
    assert!(
        said.contains("resuming an earlier recovery") && said.contains("run the same command again"),
        "{said}"
    );
    let done = stack.recover(&[]).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(
        done.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(text.contains("50000 rows, every table's row digest equal"), "{text}");
    stack.assert_whole(&before);
    assert!(state(&stack).is_none());
}

#[test]
fn without_docker_it_waits_for_servers_that_a_person_starts() {
    let server = RedisServer::start(Kind::Redis7, &[]);
    server.client().say("SET kept 1");
    let program = Program::on_directory();
    std::fs::create_dir(program.path("srv")).unwrap();
    std::fs::write(program.path("srv/.env"), "A=b\n").unwrap();
    let files = format!("files:{}", program.path("srv").display());
    expect_as_root(&program, 0, &["backup", &files, &server.url()]);
    std::fs::remove_dir_all(program.path("srv")).unwrap();
    let port = server.port;
    drop(server);
    let refused = command_as_root(
        &program,
        &["recover", "latest", "--containers", "manual", "--wait", "1s"],
    )
    .output()
    .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("within 1 s") && said.contains("--address"), "{said}");
    assert!(program.path("srv/.env").exists());
    let mut waiting = command_as_root(&program, &["recover", "latest", "--containers", "manual"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(waiting.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("wait for redis") {
        let read = told.read_line(&mut said).unwrap();
        assert!(read > 0, "it ended before it waited: {said}");
    }
    let again = Guarded::spawn(
        Command::new(std::env::var_os("WIREVAULT_TEST_REDIS7").unwrap())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null()),
    );
    told.read_to_string(&mut said).unwrap();
    let done = waiting.wait_with_output();
    drop(again);
    let done = done.unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}{said}");
    assert!(text.contains("1 keys restored"), "{text}");
}

/// The application's container is lost and its volume damaged; the databases live on and are not touched.
#[test]
fn a_restored_volume_and_a_recovery_of_its_stack_agree() {
    let Some(stack) = Stack::start() else { return };
    stack.back_up();
    let before = stack.picture();
    stack.engine.delete("/containers/shop-api-1?force=1");
    std::fs::write(stack.engine.volume("shop_uploads").join("photo"), "damaged").unwrap();
    let run = |code: i32, arguments: &[&str]| {
        let mut command = command_as_root(&stack.program, arguments);
        let output = command.current_dir(stack.directory()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    };
    // Over other files it is refused, the second time too.
    for _ in 0..2 {
        let said = run(1, &["recover", "latest", "--only", "stack"]);
        assert!(said.contains("already contains files"), "{said}");
    }
    run(
        0,
        &[
            "restore",
            "latest",
            "--source",
            "stack",
            "--volume",
            "shop_uploads",
            "--clean",
        ],
    );
    let said = run(0, &["recover", "latest", "--only", "stack"]);
    assert!(said.contains("volume shop_uploads: 0 written"), "{said}");
    assert!(stack.engine.is_running("shop-api-1"));
    assert_eq!(stack.picture(), before);
}
