// A stand-in for the talk's EnvoyManager: a program in a pod of each cluster that watches the EndpointSlices and pods of
// all clusters and sends the mesh to every sidecar that asks it.
//   node main.ts PROTOCOL-FOLDER KUBECONFIG...
import { createServer } from 'node:http';
import { kubeApi } from '../kube.ts';
import { type ClusterView, meshOf } from './mesh.ts';
import { serveXds } from './xds.ts';

/** Port for sidecars. */
export const XDS_PORT = 18000;
/** Port that returns the state as JSON, for people and tests. */
export const STATE_PORT = 18001;
/** Label of Services that are in the mesh; the controller copies it to their slices. */
export const IN_MESH = 'mesh';

/** The state that STATE_PORT returns. */
export interface ManagerState {
  mesh: ReturnType<typeof meshOf>;
  /** Milliseconds since 1970 when the mesh last changed. */
  since: number;
  refused: string[];
  connected: string[];
}

/**
 * Milliseconds that a start waits for the clusters: a mesh without one of the clusters would make all sidecars drop its
 * pods.
 */
const PATIENCE_MS = 10_000;

async function main([protocol = '', ...kubeconfigs]: string[]): Promise<void> {
  const xds = await serveXds(protocol, XDS_PORT);
  const views: ClusterView[] = kubeconfigs.map(() => ({ slices: new Map(), pods: new Map() }));
  const awaited = new Set<string>();
  let state = { text: '', mesh: {} as ManagerState['mesh'], since: 0 };

  function changed(): void {
    if (awaited.size > 0) return;
    const mesh = meshOf(views);
    const text = JSON.stringify(mesh);
    if (text === state.text) return;
    state = { text, mesh, since: Date.now() };
    xds.update(mesh);
  }

  for (const [index, view] of views.entries()) {
    const api = kubeApi(kubeconfigs[index] ?? '');
    const follow = (what: keyof ClusterView, path: string) => {
      awaited.add(`${index} ${what}`);
      api.inform(`${path}?labelSelector=${IN_MESH}`, (objects) => {
        Object.assign(view, { [what]: objects });
        awaited.delete(`${index} ${what}`);
        changed();
      });
    };
    follow('slices', '/apis/discovery.k8s.io/v1/endpointslices');
    follow('pods', '/api/v1/pods');
  }
  setTimeout(() => {
    awaited.clear();
    changed();
  }, PATIENCE_MS);

  createServer((_, answer) => {
    const { mesh, since } = state;
    const told: ManagerState = { mesh, since, refused: xds.refused, connected: xds.connected() };
    answer.statusCode = since === 0 ? 503 : 200;
    answer.end(JSON.stringify(told));
  }).listen(STATE_PORT, '0.0.0.0');
}

if (process.argv[1] === import.meta.filename) await main(process.argv.slice(2));
