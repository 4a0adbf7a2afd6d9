// The official tus server: node tus_server.mjs FOLDER MODULES [PEM] prints its port. On loopback, or on TUS_HOST.
import { createRequire } from "node:module"
import { readFileSync } from "node:fs"
import http from "node:http"
import https from "node:https"
import { pathToFileURL } from "node:url"

const require = createRequire(pathToFileURL(process.argv[3] + "/").href)
const { Server } = await import(pathToFileURL(require.resolve("@tus/server")).href)
const { FileStore } = await import(pathToFileURL(require.resolve("@tus/file-store")).href)
const tus = new Server({ path: "/clips", datastore: new FileStore({ directory: process.argv[2] }) })
const handle = (request, response) => tus.handle(request, response)
const pem = process.argv[4] && readFileSync(process.argv[4])
const server = pem ? https.createServer({ key: pem, cert: pem }, handle) : http.createServer(handle)
server.listen(0, process.env.TUS_HOST ?? "127.0.0.1", () => console.log(server.address().port))
