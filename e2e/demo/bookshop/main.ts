/**
 * The small bookshop that the demo runs: four services in one program, chosen by the first argument.
 *
 *   frontend   HTTP 8080   asks catalog, reviews and stock, and shows one page
 *   catalog    HTTP 8080   GET /books
 *   reviews    HTTP 8080   GET /reviews/<isbn>
 *   stock      TCP  7070   greets first, then answers one line per ISBN: a protocol that is not HTTP
 *
 * It knows nothing of the mesh: plain sockets, service names from DNS.
 */
import { createServer as createHttpServer, get, type ServerResponse } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";

const books = [
  { isbn: "978-0", title: "The Node That Knew Too Much", copies: 3 },
  { isbn: "978-1", title: "Tunnels and Their Makers", copies: 0 },
  { isbn: "978-2", title: "A Mesh of One's Own", copies: 12 },
] as const;

const answerTimeoutMs = 3_000;
const httpPort = 8080;
const stockPort = 7070;

/** Where each service is found; overridable so that the shop also runs outside a cluster. */
const addressOf = (service: "catalog" | "reviews" | "stock"): string =>
  process.env[`${service.toUpperCase()}_HOST`] ?? service;

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
}

/** Body of an HTTP answer as JSON, or a rejection naming what went wrong. */
function fetchJson<T>(url: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: answerTimeoutMs }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (text += chunk));
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode !== 200) reject(new Error(`${url} answered ${response.statusCode}`));
        else resolve(JSON.parse(text) as T);
      });
    });
    request.on("timeout", () => request.destroy(new Error(`${url} did not answer in ${answerTimeoutMs} ms`)));
    request.on("error", reject);
  });
}

/** Copies on the shelf, asked over the stock protocol. */
function askStock(isbn: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: addressOf("stock"), port: stockPort });
    socket.setTimeout(answerTimeoutMs, () =>
      socket.destroy(new Error(`stock did not answer in ${answerTimeoutMs} ms`)),
    );
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("stock closed the connection")));
    createInterface({ input: socket })
      .on("line", (line) => {
        if (line.startsWith("STOCK")) socket.write(`${isbn}\n`);
        else {
          resolve(Number(line));
          socket.end();
        }
      })
      .on("error", reject);
  });
}

function startHttp(answer: (path: string, response: ServerResponse) => Promise<void> | void): void {
  createHttpServer((request, response) => {
    const path = request.url ?? "/";
    if (path === "/healthz") return json(response, 200, { ok: true });
    void Promise.resolve(answer(path, response)).catch((error: unknown) => {
      json(response, 502, { error: error instanceof Error ? error.message : String(error) });
    });
    return undefined;
  }).listen(httpPort, "::");
}

const services: Readonly<Record<string, () => void>> = {
  frontend: () =>
    startHttp(async (_path, response) => {
      const shelf = await fetchJson<{ isbn: string; title: string }[]>(
        `http://${addressOf("catalog")}:${httpPort}/books`,
      );
      const page = await Promise.all(
        shelf.map(async ({ isbn, title }) => ({
          title,
          stars: (await fetchJson<{ stars: number }>(`http://${addressOf("reviews")}:${httpPort}/reviews/${isbn}`))
            .stars,
          copies: await askStock(isbn),
        })),
      );
      json(response, 200, page);
    }),
  catalog: () =>
    startHttp((_path, response) =>
      json(
        response,
        200,
        books.map(({ isbn, title }) => ({ isbn, title })),
      ),
    ),
  reviews: () =>
    startHttp((path, response) =>
      json(response, 200, { isbn: path.slice("/reviews/".length), stars: 3 + (path.length % 3) }),
    ),
  stock: () =>
    createTcpServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.write("STOCK 1\n");
      createInterface({ input: socket })
        .on("line", (isbn) => socket.write(`${books.find((book) => book.isbn === isbn)?.copies ?? 0}\n`))
        .on("error", () => socket.destroy());
    }).listen(stockPort, "::"),
};

const [role = ""] = process.argv.slice(2);
const start = services[role];
if (start === undefined) {
  console.error(`bookshop: "${role}" is no service of the shop: write one of ${Object.keys(services).join(", ")}`);
  process.exit(1);
}
start();
console.log(`bookshop ${role} is open`);
process.on("SIGTERM", () => process.exit(0));
