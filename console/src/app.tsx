/** The frame: navigation, health, theme, the token dialog, and the view the address names. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { onUnauthorized, setToken } from "./api/http";
import { Dialog } from "./parts/dialog";
import { Help, useShortcuts } from "./parts/help";
import { Icon, Mark } from "./parts/icons";
import { startPulse, usePulse } from "./state/live";
import { linkTo, useRoute, VIEWS, type Route, type View } from "./state/route";
import { nextTheme, useTheme } from "./state/theme";
import { Keys } from "./views/keys";
import { Overview } from "./views/overview";
import { Sizes } from "./views/sizes";
import { SlowRequests } from "./views/slow";
import { Store } from "./views/store";
import { Watch } from "./views/watch";

const NAMES: Record<View, string> = { overview: "Overview", keys: "Keys", sizes: "Sizes", watch: "Watch", slow: "Slow log", store: "Store" };
const HEALTH = { waiting: "Asking", ok: "Healthy", ill: "Not ready", away: "No answer" };
const THEMES = { system: "as the system", light: "light", dark: "dark" };

function TokenDialog({ onClose, onToken }: { onClose: () => void; onToken: (token: string) => void }) {
  const [token, set] = useState("");
  const submit = (event: Event): void => {
    event.preventDefault();
    if (token.trim() !== "") onToken(token.trim());
  };
  return (
    <Dialog title="A token is needed" onClose={onClose}>
      <form onSubmit={submit}>
        <p>This server answers only those who show one. It is kept in this tab and forgotten with it.</p>
        <label class="field">
          <span>Token</span>
          <input type="password" class="data" value={token} autocomplete="off" autofocus onInput={(event) => set(event.currentTarget.value)} />
        </label>
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Not now
          </button>
          <button type="submit" class="primary" disabled={token.trim() === ""}>
            Use it
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function Shown({ route }: { route: Route }) {
  if (route.view === "keys") return <Keys route={route} />;
  if (route.view === "sizes") return <Sizes route={route} />;
  if (route.view === "watch") return <Watch route={route} />;
  if (route.view === "slow") return <SlowRequests />;
  if (route.view === "store") return <Store />;
  return <Overview />;
}

function Health() {
  const { health } = usePulse();
  return (
    <a class="health-chip" href={linkTo("store")} data-state={health.state} aria-label={`Health: ${HEALTH[health.state]}`} title={"cause" in health ? health.cause : "Health of the store"}>
      <span class="dot" aria-hidden="true" />
      {HEALTH[health.state]}
    </a>
  );
}

function Rail({ view, onHelp }: { view: View; onHelp: () => void }) {
  const { theme } = useTheme();
  return (
    <div class="rail">
      <a class="brand" href={linkTo("overview")}>
        <Mark /> FlashKV
      </a>
      <nav class="nav" aria-label="Views">
        <ul>
          {VIEWS.map((one) => (
            <li key={one}>
              <a href={linkTo(one)} aria-current={one === view ? "page" : undefined}>
                <Icon name={one} />
                <span>{NAMES[one]}</span>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="tools">
        <Health />
        <button type="button" class="quiet" onClick={nextTheme} aria-label={`Theme: ${THEMES[theme]}`} title={`Theme: ${THEMES[theme]}`}>
          <Icon name={theme} />
        </button>
        <button type="button" class="quiet help-button" onClick={onHelp} aria-label="Keyboard shortcuts" title="Keyboard shortcuts">
          <kbd>?</kbd>
        </button>
      </div>
    </div>
  );
}

/** Everything is read anew with a new token: what was refused before may be allowed now. */
function Session({ onHelp }: { onHelp: () => void }) {
  const route = useRoute();
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => startPulse(), []);
  useEffect(() => {
    document.title = `${NAMES[route.view]} · FlashKV`;
    // A reader of the screen hears of the new view; at the start focus stays where the browser has it.
    const isIn = main.current?.contains(document.activeElement) === true;
    if (!isFirst.current && !isIn) main.current?.querySelector("h1")?.focus({ preventScroll: true });
    isFirst.current = false;
    scrollTo(0, 0);
  }, [route.view]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.querySelector("h1")?.focus())}>
        Skip to content
      </a>
      <Rail view={route.view} onHelp={onHelp} />
      <main id="main" ref={main} data-view={route.view}>
        <Shown key={route.view} route={route} />
      </main>
    </div>
  );
}

export function App() {
  const [session, setSession] = useState(0);
  const [isAsking, setAsking] = useState(false);
  const [isHelping, setHelping] = useState(false);
  const isPut = useRef(false);
  const help = useCallback(() => setHelping(true), []);
  useShortcuts(help);
  useEffect(
    () =>
      onUnauthorized((isWanted) => {
        // Asked once for each token; after "Not now" the panels say what is missing and offer to ask again.
        if (isWanted || !isPut.current) setAsking(true);
        isPut.current = true;
      }),
    [],
  );
  const onToken = (token: string): void => {
    setToken(token);
    isPut.current = false;
    setAsking(false);
    setSession(session + 1);
  };
  return (
    <>
      <Session key={session} onHelp={help} />
      {isAsking && <TokenDialog onClose={() => setAsking(false)} onToken={onToken} />}
      {isHelping && <Help onClose={() => setHelping(false)} />}
    </>
  );
}
