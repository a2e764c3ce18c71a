# What a member cluster gets that k3s does not bring: a kubeconfig for others, GPUs that nobody made, Istio's definitions.
set -eu
# Others reach it by its name in this file's network.
sed "s#https://127.0.0.1:6443#https://$MEMBER:6443#" /kube/k3s.yaml > /kube/kubeconfig.new
export KUBECONFIG=/kube/kubeconfig.new
# Prometheus wants the parts of it as files.
part() {
    kubectl config view --raw -o "jsonpath={$1}" | base64 -d > "/kube/$2"
}
part '.clusters[0].cluster.certificate-authority-data' ca.crt
part '.users[0].user.client-certificate-data' client.crt
part '.users[0].user.client-key-data' client.key
until kubectl get nodes -o name | grep -q .; do sleep 1; done
kubectl wait --for=condition=Ready node --all --timeout=180s
for node in $(kubectl get nodes -o name); do
    kubectl label --overwrite "$node" "nvidia.com/gpu.product=$GPU_MODEL"
    # The kubelet keeps a resource that it does not know, and counts it as allocatable.
    kubectl patch "$node" --subresource=status --type=merge --patch "{\"status\":{\"capacity\":{\"nvidia.com/gpu\":\"$GPUS\"}}}"
done
kubectl apply --server-side --filename "$ISTIO_CRDS"
# Agents and Prometheus run as other users.
chmod 0644 /kube/kubeconfig.new /kube/ca.crt /kube/client.crt /kube/client.key
mv /kube/kubeconfig.new /kube/kubeconfig
