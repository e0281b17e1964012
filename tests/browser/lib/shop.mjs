// A merchant's backend: what it asks of the server.

/** With a host's token for all lives: `put`, `post`, `get`, which fail loudly. */
export async function backend(haul) {
  const token = await haul.mint("--live", "*", "--role", "host", "--sub", "backend");
  const ask = async (method, path, body) => {
    const answer = await fetch(`${haul.url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json", "Accept-Language": "en" },
      body: body && JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? null : answer.json();
  };
  return {
    get: (path) => ask("GET", path),
    put: (path, body) => ask("PUT", path, body),
    post: (path, body) => ask("POST", path, body),
    /** A viewer's token, for the demo live unless told otherwise. */
    viewer: async (name, claims = {}, live = "demo") => (await ask("POST", `/v1/lives/${live}/tokens`, { role: "viewer", name, sub: name.toLowerCase(), ...claims })).token,
  };
}

/** A shirt in two colours and two sizes, and a cup that another shop sells, both in the demo's bag. */
export async function stock(shop) {
  const shirt = { title: "Linen shirt", subtitle: "Garment dyed", price_minor: 4900, currency: "EUR", image_url: "/assets/demo/bag.svg" };
  const cup = { title: "Stoneware cup", subtitle: "By a friend's shop", price_minor: 2800, currency: "EUR", image_url: "/assets/demo/tea.svg" };
  await shop.put("/v1/lives/demo/products/shirt", shirt);
  await shop.put("/v1/lives/demo/products/cup", cup);
  const forms = ["Blue", "Sand"].flatMap((colour) => ["M", "L"].map((size) => ({ sku: `SHIRT-${colour[0]}${size}`, values: [colour, size] })));
  const answer = await shop.post("/v1/products:batch", {
    products: [
      {
        id: "shirt",
        ...shirt,
        locale: "en",
        texts: { "zh-Hans": { title: "亚麻衬衫", subtitle: "成衣染色" } },
        options: [{ name: "Colour", values: ["Blue", "Sand"] }, { name: "Size", values: ["M", "L"] }],
        variants: forms,
      },
      { id: "cup", ...cup, external_url: "https://friends.example/cup" },
    ],
  });
  if (answer.refused) throw new Error(JSON.stringify(answer));
}
