// Requests to the server. The token comes with the printed address and stays in this tab.

const given = new URLSearchParams(location.search).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname + location.hash);
}
// A number with its noun.
export const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

export const token = sessionStorage.getItem("token") ?? "";

const SILENT = "The server does not answer. Nothing more is saved until it runs again.";

export class ApiError extends Error {
  constructor(status, content) {
    super(content.error ?? (status ? `the server answered ${status}` : SILENT));
    this.status = status;
    this.content = content;
  }
}

async function request(method, path, body) {
  const options = { method, headers: { "X-Token": token } };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch {
    throw new ApiError(0, {});
  }
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
  return response;
}

export const get = async (path) => (await request("GET", path)).json();
export const put = async (path, body) => (await request("PUT", path, body)).json();
export const post = async (path, body) => (await request("POST", path, body ?? {})).json();
export const send = async (path, file) => (await request("POST", path, file)).json();
export const remove = async (path) => (await request("DELETE", path)).json();

// Saves a file; resolves to the number of ignore regions that its format lacks.
export async function download(path) {
  const response = await request("GET", path);
  const name = response.headers.get("Content-Disposition").match(/filename="([^"]+)"/)[1];
  const blob = await response.blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
  return Number(response.headers.get("X-Regions-Left-Out") ?? 0);
}
